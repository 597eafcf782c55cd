"""What went wrong at a server, said without the key."""

import io
import json
import re
from urllib.parse import urlsplit

import requests
import urllib3

from . import reading
from .completion import choices_of

MESSAGE_LIMIT = 500
BODY_LIMIT = 64 * 1024
#: Objects within objects in which a sentence is looked for.
LEVELS = 5
HIDDEN = "[hidden]"
SECRET_RE = re.compile(
    r"(?i)\bbearer\s+[\w*.+/=~-]+"
    r"|\b(?:sk|pk|rk|gsk|xai|hf|r8)[-_][\w*.-]{6,}"
    # Not a code of an error, as `key_model_access_denied`.
    r"|\bkey[-_](?=[\w*.-]{0,100}[\d*])[\w*.-]{6,}"
    r"|\bAIza[\w-]{10,}"
    r"|(?<=key=)[^&\s\"']+|(?<=token=)[^&\s\"']+"
)


#: What goes wrong with an encrypted connection before anything was asked.
HANDSHAKE_RE = re.compile(r"(?i)certificate|handshake|wrong.version|unsupported.protocol|hostname")
#: The status that a server means by the code, the type or the status that it tells within a
#: success: names of OpenAI, Anthropic, Google and vLLM. None of these is `500`.
STATUS_OF = {
    **dict.fromkeys(("bad_request", "invalid_request_error", "invalid_argument"), 400),
    **dict.fromkeys(("content_filter", "content_policy_violation", "invalid_prompt"), 400),
    **dict.fromkeys(("context_length_exceeded", "badrequesterror"), 400),
    **dict.fromkeys(("authentication_error", "invalid_api_key", "unauthenticated"), 401),
    **dict.fromkeys(("permission_error", "permission_denied"), 403),
    **dict.fromkeys(("not_found", "not_found_error", "model_not_found"), 404),
    **dict.fromkeys(("rate_limit_error", "rate_limit_exceeded", "rate_limited"), 429),
    **dict.fromkeys(("insufficient_quota", "resource_exhausted", "too_many_requests"), 429),
    **dict.fromkeys(("overloaded", "overloaded_error", "unavailable", "service_unavailable"), 503),
}


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
    copy = _copy(response, response.status_code, _read_start(response), api_key)
    sentence = error_text(_json(copy)) or " ".join(copy.text.split()) or response.reason
    if response.status_code < 400:
        place = redact(_place(response.headers.get("Location") or ""), api_key)
        sentence = f"the server points to {place or 'nowhere'}: correct the API base."
    return requests.HTTPError(
        f"HTTP {response.status_code}: {sentence[:MESSAGE_LIMIT]}", response=copy
    )


def _place(location):
    """Return an address without what may be secret in it."""
    try:
        parts = urlsplit(location)
    except ValueError:
        return ""
    netloc = parts.netloc.rpartition("@")[2]
    return parts._replace(netloc=netloc, query="", fragment="").geturl()


def is_error(body):
    """Tell whether the JSON of a success is an error."""
    return (
        bool(body.get("error"))
        or "error" in (body.get("object"), body.get("type"))
        or any(choice.get("finish_reason") == "error" for choice in choices_of(body))
    )


def body_error(body, response, api_key=""):
    """Return the `HTTPError` that an error within a success means, as if its status had told it."""
    status = _status_in(body)
    copy = _copy(response, status, json.dumps(body).encode(), api_key)
    sentence = redact(error_text(body), api_key) or "the server reports an error without a word."
    return requests.HTTPError(f"HTTP {status}: {sentence[:MESSAGE_LIMIT]}", response=copy)


def _status_in(body):
    error = body.get("error")
    told = [
        str(level.get(name)).lower()
        for level in (error, body)
        if isinstance(level, dict)
        for name in ("code", "status", "status_code", "type")
    ]
    numbers = (int(one) for one in told if re.fullmatch(r"[45]\d\d", one))
    return next(numbers, None) or next((STATUS_OF[one] for one in told if one in STATUS_OF), 500)


def _copy(response, status, body, api_key):
    copy = requests.Response()
    copy.status_code = status
    copy.reason = response.reason if status == response.status_code else ""
    copy.headers = response.headers.copy()
    # The body is as long as it is.
    for name in ("Content-Encoding", "Content-Length", "Transfer-Encoding"):
        copy.headers.pop(name, None)
    copy.encoding = "utf-8"
    copy.raw = io.BytesIO(redact(body.decode("utf-8", "replace"), api_key).encode())
    return copy


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
        if HANDSHAKE_RE.search(str(error)):
            return requests.exceptions.SSLError(f"The certificate of {host} is not accepted.")
        return requests.exceptions.ChunkedEncodingError(f"{host} broke off its answer.")
    schemas = (requests.exceptions.InvalidSchema, requests.exceptions.MissingSchema)
    if _any(kinds, requests.exceptions.InvalidURL, *schemas):
        return requests.exceptions.InvalidURL("The API base is no valid address.")
    if "Connection aborted" in str(error):  # so says urllib3 before the first byte of an answer
        return requests.ConnectionError(f"Connection aborted: {host} hung up before it answered.")
    if _any(kinds, requests.exceptions.ChunkedEncodingError, urllib3.exceptions.ProtocolError):
        return requests.exceptions.ChunkedEncodingError(f"{host} broke off its answer.")
    return requests.ConnectionError(f"The connection to {host} failed.")


def _any(errors, *classes):
    return any(isinstance(error, classes) for error in errors)
