"""From an HTTP answer, or an exception of `requests`, to what it means.

Facts: the public documentation of OpenAI, Azure OpenAI, Anthropic, Replicate and fal.
"""

import email.utils
import errno
import math
import re
import socket
import time
import traceback

import requests

from .. import exceptions
from .bounded_http import start_of
from .sanitize import LONGEST_ERROR, redact, text_of

#: An answer came with a file, and there was no room for it: that passes.
DISK_FULL = {errno.ENOSPC, errno.EDQUOT}
NO_ROOM = (
    "The server's disk is full: the answer is lost. Free some space; the queue waits meanwhile."
)
#: Providers' codes that mean "pay first", whatever the status.
QUOTA_CODES = frozenset({"insufficient_quota", "billing_hard_limit_reached", "billing_not_active"})
#: Providers' codes that no repetition changes.
CONTENT_CODES = frozenset({
    "content_filter",
    "content_policy_violation",
    "context_length_exceeded",
    "exceed_context_size_error",
    "moderation_blocked",
})
#: What PostgreSQL adds to the sentence of an error, up to the next exception of a traceback.
ROW_RE = re.compile(
    r"\n(?:DETAIL|CONTEXT|QUERY|LINE \d+):.*?"
    r"(?=\n\n(?:During handling of|The above exception)|\Z)",
    re.DOTALL,
)
DURATION_RE = re.compile(r"(\d+(?:\.\d+)?)(ms|h|m|s)")
UNIT_SECONDS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0}


def traceback_of(error, key=""):
    """Return the traceback of an exception for the log, without credentials and contents of rows.

    PostgreSQL tells the row that it refuses, and that has the prompt.
    """
    text = ROW_RE.sub("", "".join(traceback.format_exception(error)))
    half = LONGEST_ERROR // 2
    if len(text) > LONGEST_ERROR:
        text = f"{text[: half - 9]}\n […]\n{text[9 - half :]}"
    return redact(text, key)


def parse_duration(text):
    """Return the seconds of a plain number or of a Go duration, None where it is neither.

    >>> parse_duration("6m0s"), parse_duration("250ms"), parse_duration("7"), parse_duration("x")
    (360.0, 0.25, 7.0, None)
    """
    try:
        seconds = float(text)
    except (TypeError, ValueError):
        parts = DURATION_RE.findall(str(text or ""))
        if not parts:
            return None
        seconds = sum(float(number) * UNIT_SECONDS[unit] for number, unit in parts)
    return seconds if math.isfinite(seconds) else None


def retry_after(headers, now=None):
    """Return the seconds that an answer asks to wait, None where it does not tell.

    `retry-after-ms` goes before `Retry-After` (seconds or an HTTP date), and both before the
    reset headers of OpenAI. Azure's resets can be -1 or 0: they tell nothing.

    :param headers: mapping of lower- or mixed-case header names
    :param float now: seconds since the epoch, for tests
    """
    headers = {name.lower(): value for name, value in (headers or {}).items()}
    milliseconds = parse_duration(headers.get("retry-after-ms"))
    if milliseconds is not None and milliseconds > 0:
        return milliseconds / 1000
    value = headers.get("retry-after")
    seconds = parse_duration(value) if value and not re.search(r"[A-Z]", value) else None
    if seconds is None and value:
        seconds = _seconds_until(value, now)
    if seconds is None:
        resets = [
            parse_duration(headers.get(f"x-ratelimit-reset-{kind}"))
            for kind in ("requests", "tokens")
            if parse_duration(headers.get(f"x-ratelimit-remaining-{kind}")) == 0
        ]
        seconds = max((reset for reset in resets if reset), default=None)
    return seconds if seconds is not None and 0 < seconds < float("inf") else None


def _seconds_until(http_date, now=None):
    try:
        when = email.utils.parsedate_to_datetime(http_date)
        moment = when.timestamp()
    except (TypeError, ValueError, OverflowError, LookupError):
        return None
    return moment - (time.time() if now is None else now)


def error_details(response):
    """Return `(code, message)` of an error answer's body, empty strings where it tells none."""
    if isinstance(response, requests.Response):
        response = start_of(response)
    try:
        body = response.json()
    except ValueError:
        return "", (getattr(response, "text", "") or "")[:500]
    except (RuntimeError, requests.RequestException):
        return "", ""  # a stream that was read already, or that broke off
    if not isinstance(body, dict):
        return "", text_of(body)[:500]
    error = body.get("error", body)
    if not isinstance(error, dict):
        return "", text_of(error)[:500]
    # Some servers, llama.cpp for one, repeat the status as the code: the type tells more.
    names = [error.get(key) for key in ("code", "type")]
    code = next((name for name in names if name and not text_of(name).isdigit()), "")
    message = error.get("message") or error.get("detail") or body.get("detail") or ""
    return text_of(code), text_of(message)[:500]


def from_response(response, message=None):
    """Return the `GenerationError` that an HTTP error answer means.

    :param requests.Response response: status 400 or more
    :param str message: a sentence to use instead of the provider's own
    """
    code, detail = error_details(response)
    status = response.status_code
    wait = retry_after(response.headers)
    reason = getattr(response, "reason", "") or code
    text = redact(message or f"HTTP {status}: {detail or reason}")
    if wait is None and "resets in" in detail:  # Replicate tells it in the sentence only
        wait = parse_duration(detail.rpartition("resets in")[2].strip(" ~."))
    return _class_of(status, code)(text, retry_after=wait)


def _class_of(status, code):
    if code in QUOTA_CODES or status == 402:
        return exceptions.QuotaExceededError
    if code in CONTENT_CODES:
        return exceptions.ContentRefusedError
    if status == 429:
        return exceptions.RateLimitedError
    if status in {401, 403}:
        return exceptions.AuthenticationError
    if status in {503, 529}:
        return exceptions.OverloadedError
    if status in {408, 409} or status >= 500:
        return exceptions.TransientError
    return exceptions.BadRequestError


def classify(error):
    """Return the `GenerationError` that an exception of a provider's code means, else None.

    Libraries of providers wrap what happened in classes of their own: what caused it counts.
    """
    while error is not None:
        if known := _classify_one(error):
            return known
        error = error.__cause__ or (None if error.__suppress_context__ else error.__context__)
    return None


def _classify_one(error):
    if isinstance(error, exceptions.GenerationError):
        return error
    response = getattr(error, "response", None)
    status = getattr(response, "status_code", None)
    if isinstance(status, int) and status >= 400:
        # What `raise_for_status()` says is the address; the provider's own words tell more.
        text = str(error)
        return from_response(response, None if " for url: " in text else text)
    if isinstance(error, requests.RequestException):
        return _of_requests(error)
    if isinstance(error, OSError) and error.errno in DISK_FULL:
        return exceptions.DiskFullError(NO_ROOM)
    if isinstance(error, ConnectionRefusedError | socket.gaierror):
        return exceptions.TransientError(redact(error))
    if isinstance(error, ConnectionError | TimeoutError):
        return exceptions.UnknownOutcomeError(redact(error))
    return None


def _of_requests(error):
    if isinstance(error, requests.ConnectTimeout | requests.exceptions.SSLError):
        return exceptions.TransientError(redact(error))
    if isinstance(error, requests.ReadTimeout | requests.exceptions.ChunkedEncodingError):
        return exceptions.UnknownOutcomeError(redact(error))
    if isinstance(error, requests.ConnectionError):
        # `requests` says the same for "nobody listens" and for "hung up while answering";
        # only the former is sure to have done nothing.
        refused = "NewConnectionError" in repr(error) or "NameResolution" in repr(error)
        kind = exceptions.TransientError if refused else exceptions.UnknownOutcomeError
        return kind(redact(error))
    if isinstance(error, requests.exceptions.InvalidURL | requests.exceptions.MissingSchema):
        return exceptions.BadRequestError(redact(error))
    return exceptions.TransientError(redact(error))
