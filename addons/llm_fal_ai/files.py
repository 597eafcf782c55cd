"""The files of an answer: fetched before they expire, and looked at before they are kept."""

import base64
import binascii
import mimetypes
import os.path
import re
from dataclasses import dataclass
from urllib.parse import unquote, urlsplit

from odoo.tools.mimetypes import guess_mimetype

from odoo.addons.llm_generate_job.exceptions import (
    AuthenticationError,
    BadRequestError,
    GenerationError,
)
from odoo.addons.llm_generate_job.protocol.sanitize import sanitize_text

from .client import AddressRefusedError, TooLargeError

#: Files of an answer that are kept, bytes of each, and of all: they are in memory at once.
MOST_FILES = 32
FILE_LIMIT = 50_000_000
TOTAL_LIMIT = 200_000_000
#: Images, being what browsers show, have to be what they say.
IMAGE_TYPES = frozenset({"image/png", "image/jpeg", "image/gif", "image/webp"})
#: What no browser runs anything of, as declared. A PDF may have scripts.
INERT_TYPES = frozenset({
    *("audio/aac", "audio/flac", "audio/mp4", "audio/mpeg", "audio/ogg", "audio/opus"),
    *("audio/wav", "audio/webm", "audio/x-flac", "audio/x-m4a", "audio/x-wav"),
    *("video/mp4", "video/mpeg", "video/ogg", "video/quicktime", "video/webm"),
    *("video/x-matroska", "video/x-msvideo"),
    *("model/gltf+json", "model/gltf-binary", "model/mtl", "model/obj", "model/stl"),
    *("application/json", "application/zip", "text/csv", "text/plain"),
})
#: All else is kept as this, which browsers save and do not show.
DOWNLOAD = "application/octet-stream"
#: What a content is that a browser runs something of, whatever it is declared to be.
ACTIVE_CONTENT = re.compile(r"xml|html|script|pdf|wasm")
TYPE_RE = re.compile(r"[a-z0-9][\w!#$&^.+-]{0,126}/[a-z0-9][\w!#$&^.+-]{0,126}", re.ASCII)

TOO_LARGE = "too large"
EMPTY = "empty"
WRONG_ADDRESS = "address not allowed"
GONE = "not there"
OUT_OF_REACH = "out of reach"


@dataclass(frozen=True)
class File:
    """A file of an answer; without content, `reason` says why it is not kept."""

    name: str
    url: str
    content: bytes = b""
    mimetype: str = ""
    reason: str = ""


def fetch_files(client, found, *, is_last=False):
    """Return the files of an answer.

    :param FalClient client: downloads them
    :param found: what `results.find_files()` returns
    :param bool is_last: do without those that cannot be had now
    :raise GenerationError: when a download fails that may succeed later
    """
    files, left = [], TOTAL_LIMIT
    for number, entry in enumerate(found[:MOST_FILES], 1):
        try:
            files.append(_fetch(client, entry, number, min(left, FILE_LIMIT)))
        except GenerationError:
            if not is_last:
                raise
            files.append(File(_name(entry, "", number), entry["url"], reason=OUT_OF_REACH))
        left -= len(files[-1].content)
    return files


def _fetch(client, entry, number, limit):
    is_inline = entry["url"].startswith("data:")
    url = "" if is_inline else entry["url"]
    if not is_inline and not client.may_follow(url):
        return File(_name(entry, "", number), "", reason=WRONG_ADDRESS)
    try:
        content, served = _decode(entry["url"], limit) if is_inline else client.download(url, limit)
    except TooLargeError:
        return File(_name(entry, "", number), url, reason=TOO_LARGE)
    except AddressRefusedError:
        return File(_name(entry, "", number), "", reason=WRONG_ADDRESS)
    except (AuthenticationError, BadRequestError):
        # The rest of the answer is there, and asking again brings this file no nearer.
        return File(_name(entry, "", number), url, reason=GONE)
    if not content:
        return File(_name(entry, "", number), url, reason=EMPTY)
    declared = canonical_type(entry.get("content_type"))
    mimetype = _judge(content, canonical_type(served) if declared == DOWNLOAD else declared)
    return File(_name(entry, mimetype, number), url, content, mimetype)


def canonical_type(text):
    """Return a `Content-Type` without its parameters, `application/octet-stream` for none.

    >>> canonical_type(" Image/PNG; charset=x"), canonical_type("text/html, image/png")
    ('image/png', 'application/octet-stream')
    """
    head = str(text or "")[:300].partition(";")[0].strip().lower()
    return head if TYPE_RE.fullmatch(head) else DOWNLOAD


def _decode(url, limit):
    """Return the content and the declared type of a `data:` address in base64."""
    head, _comma, data = url.partition(",")
    if len(data) > limit * 4 // 3:
        raise TooLargeError
    try:
        return base64.b64decode(data, validate=True), head[5:]
    except binascii.Error:
        return b"", ""


def _judge(content, declared):
    """Return the type under which a content is kept: one that no browser runs anything of."""
    guessed = guess_mimetype(content)
    if guessed in IMAGE_TYPES:
        return guessed
    if declared in INERT_TYPES and not ACTIVE_CONTENT.search(guessed):
        return declared
    return DOWNLOAD


def _name(entry, mimetype, number):
    """Return a file name without a path, whose extension fits its type."""
    url = str(entry.get("url") or "")
    path = "" if url.startswith("data:") else unquote(urlsplit(url).path)
    name = sanitize_text(str(entry.get("file_name") or path), one_way=True)
    name = os.path.basename(name.replace("\\", "/"))
    stem, extension = os.path.splitext(name)
    right = mimetypes.guess_extension(mimetype) if mimetype else ""
    if not right or mimetypes.guess_type(name)[0] == mimetype:
        right = extension
    return f"{stem[:80] or f'file_{number}'}{right[:10]}"
