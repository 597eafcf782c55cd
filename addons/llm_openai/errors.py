"""What went wrong at a server, said without the key."""

import io
import re

import requests
import urllib3

from . import reading

MESSAGE_LIMIT = 500
BODY_LIMIT = 64 * 1024
#: Objects within objects in which a sentence is looked for.
LEVELS = 5
HIDDEN = "[hidden]"
SECRET_RE = re.compile(
    r"(?i)\bbearer\s+[\w*.+/=~-]+"
    r"|\b(?:sk|pk|rk|gsk|xai|hf|key|r8)[-_][\w*.-]{6,}"
    r"|\bAIza[\w-]{10,}"
    r"|(?<=key=)[^&\s\"']+|(?<=token=)[^&\s\"']+"
)


class NewConnectionError(requests.ConnectionError):
    """Nobody listens at the address: nothing was sent."""


def redact(text, api_key=""):
    """Return `text` without `api_key` and without what looks like a key."""
    if api_key:
        text = text.replace(api_key, HIDDEN)
    return SECRET_RE.sub(HIDDEN, text)


def http_error(response, api_key=""):
    """Return the `HTTPError` that tells what an answer of status 300 or more means.

    Its response is a copy with a redacted body and without the request, which holds the key.
    """
    body = redact(_read_start(response).decode("utf-8", "replace"), api_key)
    copy = requests.Response()
    copy.status_code = response.status_code
    copy.reason = response.reason
    copy.headers = response.headers.copy()
    # The body is as long as it is.
    for name in ("Content-Encoding", "Content-Length", "Transfer-Encoding"):
        copy.headers.pop(name, None)
    copy.encoding = "utf-8"
    copy.raw = io.BytesIO(body.encode())
    sentence = error_text(_json(copy)) or " ".join(copy.text.split()) or response.reason
    return requests.HTTPError(
        f"HTTP {response.status_code}: {sentence[:MESSAGE_LIMIT]}", response=copy
    )


def _read_start(response):
    try:
        return reading.read_start(response, BODY_LIMIT)
    except (urllib3.exceptions.HTTPError, OSError):
        return b""


def _json(response):
    try:
        return reading.parse_json(response.content)
    except ValueError:
        return None


def error_text(body):
    """Return the sentence of an error body, in any of the shapes that servers use."""
    for _level in range(LEVELS):
        if not isinstance(body, dict):
            break
        body = next((body[key] for key in ("error", "message", "detail") if body.get(key)), "")
    return body if isinstance(body, str) else ""


def connection_error(error, host):
    """Return a copy of a connection's error whose text has no address but `host`.

    :param error: exception of `requests` or `urllib3`
    """
    reason = error.args[0] if error.args else None
    reason = getattr(reason, "reason", reason)
    kinds = (error, reason)
    # First: urllib3 counts it among the timeouts.
    if _any(kinds, urllib3.exceptions.NewConnectionError):
        return NewConnectionError(f"No server can be reached at {host}.")
    if _any(kinds, requests.ConnectTimeout, urllib3.exceptions.ConnectTimeoutError):
        return requests.ConnectTimeout(f"{host} did not accept the connection in time.")
    if _any(kinds, requests.ReadTimeout, urllib3.exceptions.ReadTimeoutError):
        return requests.ReadTimeout(f"{host} did not answer in time.")
    if _any(kinds, requests.exceptions.SSLError, urllib3.exceptions.SSLError):
        return requests.exceptions.SSLError(f"The certificate of {host} is not accepted.")
    if _any(kinds, requests.exceptions.InvalidURL, requests.exceptions.MissingSchema):
        return requests.exceptions.InvalidURL("The API base is no valid address.")
    if _any(kinds, requests.exceptions.ChunkedEncodingError, urllib3.exceptions.ProtocolError):
        return requests.exceptions.ChunkedEncodingError(f"{host} broke off its answer.")
    return requests.ConnectionError(f"The connection to {host} failed.")


def _any(errors, *classes):
    return any(isinstance(error, classes) for error in errors)
