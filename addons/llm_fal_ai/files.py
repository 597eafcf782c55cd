"""The files of an answer: fetched before they expire, and looked at before they are kept."""

import base64
import binascii
import mimetypes
import os.path
from dataclasses import dataclass
from urllib.parse import unquote, urlsplit

from odoo.tools.mimetypes import guess_mimetype

from odoo.addons.llm_generate_job.exceptions import AuthenticationError, BadRequestError
from odoo.addons.llm_generate_job.runner.untrusted import printable

from .client import TooLargeError

#: Files of an answer that are kept, bytes of each, and of all: they are in memory at once.
MOST_FILES = 32
FILE_LIMIT = 50_000_000
TOTAL_LIMIT = 200_000_000
#: What may be kept. Images, being what browsers show, have to be what they say.
IMAGE_TYPES = frozenset({"image/png", "image/jpeg", "image/gif", "image/webp"})
OTHER_TYPES = ("video/", "audio/", "model/")
PLAIN_TYPES = frozenset({
    "application/json",
    "application/octet-stream",
    "application/pdf",
    "application/zip",
    "text/csv",
    "text/plain",
})
#: What a browser would run. No declared type makes it harmless.
ACTIVE_TYPES = frozenset({"text/html", "image/svg+xml", "application/xhtml+xml", "text/xml"})

TOO_LARGE = "too large"
WRONG_TYPE = "type not allowed"
WRONG_ADDRESS = "address not allowed"
GONE = "not there"


@dataclass(frozen=True)
class File:
    """A file of an answer; without content, `reason` says why it is not kept."""

    name: str
    url: str
    content: bytes = b""
    mimetype: str = ""
    reason: str = ""


def fetch_files(client, found):
    """Return the files of an answer.

    :param FalClient client: downloads them
    :param found: what `results.find_files()` returns
    :raise GenerationError: when a download fails that may succeed later
    """
    files, left = [], TOTAL_LIMIT
    for number, entry in enumerate(found[:MOST_FILES], 1):
        files.append(_fetch(client, entry, number, min(left, FILE_LIMIT)))
        left -= len(files[-1].content)
    return files


def _fetch(client, entry, number, limit):
    declared = str(entry.get("content_type") or "").lower()
    is_inline = entry["url"].startswith("data:")
    url = "" if is_inline else entry["url"]
    if not is_inline and not client.may_follow(url):
        return File(_name(entry, "", number), "", reason=WRONG_ADDRESS)
    try:
        content, served = _decode(entry["url"], limit) if is_inline else client.download(url, limit)
    except TooLargeError:
        return File(_name(entry, declared, number), url, reason=TOO_LARGE)
    except (AuthenticationError, BadRequestError):
        # The rest of the answer is there, and asking again brings this file no nearer.
        return File(_name(entry, declared, number), url, reason=GONE)
    mimetype = _judge(content, declared or served)
    name = _name(entry, mimetype, number)
    if not mimetype:
        return File(name, "", reason=WRONG_TYPE)
    return File(name, url, content, mimetype)


def _decode(url, limit):
    """Return the content and the type of a `data:` address in base64."""
    head, _comma, data = url.partition(",")
    if len(data) > limit * 4 // 3:
        raise TooLargeError
    try:
        return base64.b64decode(data, validate=True), head[5:].partition(";")[0].lower()
    except binascii.Error:
        return b"", ""


def _judge(content, declared):
    """Return the type under which a content may be kept, empty where it may not."""
    guessed = guess_mimetype(content)
    if not content or guessed in ACTIVE_TYPES or declared in ACTIVE_TYPES:
        return ""
    if guessed in IMAGE_TYPES:
        return guessed
    if declared.startswith(OTHER_TYPES) or declared in PLAIN_TYPES:
        return declared
    return ""


def _name(entry, mimetype, number):
    """Return a file name without a path, whose extension fits its type."""
    url = str(entry.get("url") or "")
    path = "" if url.startswith("data:") else unquote(urlsplit(url).path)
    name = printable(str(entry.get("file_name") or path), one_way=True)
    name = os.path.basename(name.replace("\\", "/"))
    stem, extension = os.path.splitext(name)
    right = mimetypes.guess_extension(mimetype) if mimetype else ""
    if not right or mimetypes.guess_type(name)[0] == mimetype:
        right = extension
    return f"{stem[:80] or f'file_{number}'}{right[:10]}"
