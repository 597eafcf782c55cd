"""From an HTTP answer, or an exception of a library that made the call, to what it means.

Facts: the public documentation of OpenAI, Azure OpenAI, Anthropic, Replicate and fal, and what the
libraries of vendors raise (`openai`, `anthropic`, `mistralai`, `ollama`, `replicate`, `fal_client`
and `httpx` below them). None of these has to be installed: what they raise is told by the names of
its classes and by its attributes.
"""

import contextlib
import email.utils
import errno
import json
import math
import re
import socket
import time
import traceback
from urllib.parse import urlsplit

import requests

from .. import exceptions
from .bounded_http import EXCERPT, start_of
from .sanitize import LONGEST_ERROR, redact, text_of


def _lt(sentence):
    """Return a sentence as it is, which the engine translates for whoever is to read it."""
    return sentence


#: An answer came with a file, and there was no room for it: that passes.
DISK_FULL = {errno.ENOSPC, errno.EDQUOT}
NO_ROOM = _lt(
    "The server's disk is full: the answer is lost. Free some space; the queue waits meanwhile."
)
#: Providers' codes that mean "pay first", whatever the status; in lower case.
QUOTA_CODES = frozenset({
    "arrearage",  # Alibaba
    "billing_error",
    "billing_hard_limit_reached",
    "billing_not_active",
    "budget_exceeded",  # LiteLLM, with a status of 400 or 429
    "credit_balance_exhausted",
    "exceeded_current_quota_error",  # Moonshot
    "insufficient_balance",
    "insufficient_quota",
})
#: The same of who has no code for it: Anthropic (status 400), fal and OpenRouter (403), LiteLLM
#: (400), xAI (429). Google says "exceeded your current quota" of what is over within a minute.
QUOTA_RE = re.compile(
    r"credit balance is too low|exhausted balance|insufficient (?:credits?|balance|funds)\b"
    r"|key limit exceeded|budget has been exceeded|\bexceeded ?budget\b"
    r"|reached your specified (?:api )?usage limits|all available credits|monthly spending limit",
    re.IGNORECASE,
)
#: Where services begin to repeat what was asked: that says nothing of who asks.
QUOTE_RE = re.compile(r"(?<!\w)['\"`]")
#: The sentence within what a gateway repeats of the service behind it, after words of its own.
NESTED_RE = re.compile(r"""\{.{0,200}?(['"])message\1: ?(['"])(?P<words>.*)""", re.DOTALL)
#: What goes wrong with an encrypted connection before anything was asked.
HANDSHAKE_RE = re.compile(
    r"certificate|handshake|wrong.version|unsupported.protocol|hostname", re.IGNORECASE
)
#: A status 400 that is about who asks: Gemini and xAI of a key, Anthropic of an account.
KEY_RE = re.compile(
    r"\bapi[ _]key (?:not valid|not found|expired|invalid)|\b(?:incorrect|invalid) api[ _]key\b"
    r"|\b(?:organi[sz]ation|account) has been disabled",
    re.IGNORECASE,
)
#: Providers' codes that no repetition changes.
CONTENT_CODES = frozenset({
    "content_filter",
    "content_policy_violation",
    "context_length_exceeded",
    "exceed_context_size_error",
    "moderation_blocked",
})
#: A status 401 or 403 that is about what was asked, as of OpenRouter ("Input was flagged") and
#: xAI, and one that is about who asks, though it tells of rules, too.
CONTENT_RE = re.compile(
    r"\bflagged\b|moderat|content (?:policy|filter|management)|safety|guidelines|violat",
    re.IGNORECASE,
)
ACCOUNT_RE = re.compile(
    r"\b(?:account|organi[sz]ation|project|key|user)\b[^.]{0,80}"
    r"\b(?:blocked|banned|deactivated|disabled|locked|revoked|suspended|terminated)\b",
    re.IGNORECASE,
)
#: It is about one model: OpenAI names it in "for gpt-4o in organization org-…", the others say so.
#: Who may not ask for any misses a scope, `model.request`.
MODEL_RE = re.compile(r"\bmodels?\b(?!\.)|reached for \S+ in organization", re.IGNORECASE)
MODEL_BUDGET_RE = re.compile(r"\bfor (?:the |this )?model\b", re.IGNORECASE)
#: Of status 402, 403 or 429: the request is larger than it may ever be. OpenAI: "Request too large
#: … Limit 30000, Requested 36278"; OpenRouter: "fewer max_tokens … can only afford 3919".
TOO_LARGE_RE = re.compile(r"request too large|prompt tokens limit exceeded", re.IGNORECASE)
NUMBER = r"(\d+(?:,\d{3})*)"
ALLOWANCE_RE = re.compile(rf"\blimit:? {NUMBER}\b.*?\brequested:? {NUMBER}\b", re.IGNORECASE)
AFFORD_RE = re.compile(rf"can only afford {NUMBER}\b", re.IGNORECASE)
#: What LiteLLM adds to any error.
ADDED_RE = re.compile(r"\.?\s*(?:Received|Available) Model Group.*", re.DOTALL)
#: Waits that are told in a sentence: OpenAI, Google, Replicate.
WAIT_RE = re.compile(
    r"\b(?:resets|try again|retry) in ~?((?:\d+(?:\.\d+)?(?:ms|h|m|s))+)", re.IGNORECASE
)
#: A gateway had nobody to ask: nothing was done.
UNBILLED_STATUS = 502
#: The status that codes mean which come in the middle of a stream, where no status tells it.
STREAM_CODES = {
    "authentication_error": 401,
    "invalid_request_error": 400,
    "overloaded_error": 529,
    "permission_error": 403,
    "rate_limit_error": 429,
    "rate_limit_exceeded": 429,
}
UNREADABLE = _lt("The provider answered with something that is no answer.")
#: Where a redirect points, which is not followed: the key would go there, too.
MOVED = "the server points to %s: correct the address of the provider."
UNSENDABLE_KEY = _lt("The API key is missing, or has characters that cannot be sent.")
#: Classes of libraries by their names. The first one in an exception's method resolution order
#: counts, so a class stands for all below it that are not named.
LIBRARY_ERRORS = {
    # httpx and httpcore: nothing was sent, or something may have been.
    "ConnectError": exceptions.TransientError,
    "ConnectTimeout": exceptions.TransientError,
    "PoolTimeout": exceptions.TransientError,
    "ProxyError": exceptions.TransientError,
    "InvalidURL": exceptions.BadRequestError,
    "LocalProtocolError": exceptions.BadRequestError,
    "UnsupportedProtocol": exceptions.BadRequestError,
    "NetworkError": exceptions.UnknownOutcomeError,
    "ProtocolError": exceptions.UnknownOutcomeError,
    "TimeoutException": exceptions.UnknownOutcomeError,
    "TransportError": exceptions.UnknownOutcomeError,
    # ollama, where it refuses to send anything
    "RequestError": exceptions.BadRequestError,
    # fal_client and anthropic
    "CredentialsError": exceptions.AuthenticationError,
    "MissingCredentialsError": exceptions.AuthenticationError,
    # openai
    "ContentFilterFinishReasonError": exceptions.ContentRefusedError,
    # replicate: its model failed
    "ModelError": exceptions.ProviderFailedError,
}
#: An answer came, and its library could make nothing of it.
UNREADABLE_ERRORS = frozenset({
    "APIResponseValidationError",  # openai and anthropic
    "DecodingError",  # httpx
    "NoResponseError",  # mistralai
    "ResponseValidationError",  # mistralai
})
#: The service told an error in the middle of its stream: openai and anthropic, ollama.
STREAM_ERRORS = frozenset({"APIError", "BodyError", "ResponseError"})
#: These say that there was no answer, and only their cause why: openai and anthropic.
VAGUE_ERRORS = frozenset({"APIConnectionError"})
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
        return "", ""  # a stream that was read already, or was not, or that broke off
    return _details_of(body)


class BodyError(Exception):
    """A service told an error within a success: the meaning is that of its code."""

    def __init__(self, body):
        """Take the JSON of the error."""
        super().__init__("The provider told an error without a word.")
        self.body = body


def error_of(status, body):
    """Return the exception of `requests` that is raised for an answer.

    For an answer that came another way, as to one request of many: it means the same.

    :param int status: as that of HTTP
    :param body: what its JSON has

    >>> classify(error_of(429, {"error": {"message": "Slower."}})).error_type
    'rate_limited'
    """
    response = requests.Response()
    response.status_code = status
    response._content = json.dumps(body).encode()
    return requests.HTTPError(f"{status} for a request of many", response=response)


def no_answer(body, sentence):
    """Return the `GenerationError` that an answer means which is not what it should be.

    :param dict body: of a success; it may tell an error
    :param str sentence: for one that tells none
    """
    if body.get("error") or "error" in (body.get("object"), body.get("type")):
        return classify(BodyError(body))
    start = json.dumps(body)[:EXCERPT]
    return exceptions.UnreadableAnswerError(redact(f"{sentence} It begins with: {start}"))


def _status_in(told):
    """Return the status that the JSON of an error tells as its code, None where it does not."""
    levels = (told.get("error"), told) if isinstance(told, dict) else ()
    codes = [
        text_of(level.get(name))
        for level in levels
        if isinstance(level, dict)
        for name in ("code", "status", "status_code")
    ]
    return next((int(code) for code in codes if re.fullmatch(r"[45]\d\d", code)), None)


def _details_of(body):
    """Return `(code, message)` of the JSON of an error."""
    if not isinstance(body, dict):
        return "", _sentence(body)[:500]
    error = body.get("error") or body
    if not isinstance(error, dict):
        return "", _sentence(error)[:500]
    # Some servers, llama.cpp for one, repeat the status as the code: the type tells more.
    names = [error.get(key) for key in ("code", "type")]
    if isinstance(error.get("detail"), list):  # fal
        names += [one.get("type") for one in error["detail"] if isinstance(one, dict)]
    code = next((name for name in names if name and not text_of(name).isdigit()), "")
    words = _sentence(error) or _sentence(body.get("detail"))
    metadata = error.get("metadata")  # OpenRouter: what the service behind it said
    raw = metadata.get("raw") if isinstance(metadata, dict) else None
    if isinstance(raw, str) and not raw.lstrip().startswith(("{", "[")):
        words = f"{words}: {raw}"
    return text_of(code), words[:500]


def _sentence(told, depth=6):
    """Return the words of an error, wherever they are in it, and nothing of what it is about.

    Servers that check what they are sent (those of Mistral and fal) tell it, too, as `input`.
    """
    if not told or not depth:
        return ""
    if isinstance(told, list):
        return "; ".join(filter(None, (_sentence(one, depth - 1) for one in told[:10])))
    if not isinstance(told, dict):
        return text_of(told)
    names = ("message", "detail", "msg", "error", "title", "errors", "description", "reason")
    words = next(filter(None, (_sentence(told.get(name), depth - 1) for name in names)), "")
    place = told.get("loc") if isinstance(told.get("loc"), list) else []
    return ": ".join(filter(None, (".".join(text_of(one) for one in place), words)))


def from_response(response, message=None):
    """Return the `GenerationError` that an HTTP error answer means.

    :param requests.Response response: status 400 or more; one of `httpx` will do
    :param str message: a sentence to use instead of the provider's own
    """
    code, detail = error_details(response)
    reason = getattr(response, "reason", "") or getattr(response, "reason_phrase", "") or code
    status = response.status_code
    text = message or f"HTTP {status}: {detail or reason}"
    return _meaning(status, code, detail, response.headers, text)


def _meaning(status, code, detail, headers, text):
    wait = retry_after(headers)
    if wait is None and (found := WAIT_RE.search(detail)):
        wait = parse_duration(found[1])
    kind, scope = _kind_of(status, code.lower(), ADDED_RE.sub("", detail))
    unbilled = status == UNBILLED_STATUS
    return kind(redact(text), retry_after=wait, scope=scope, unbilled=unbilled)


def _kind_of(status, code, detail):
    """Return the class of an error, and whose fault it is: None for what the class says."""
    if status in {402, 403, 429} and _asks_too_much(detail):
        return exceptions.BadRequestError, None
    # What a request is told may be its own words: no single one stops a queue by them.
    said = detail if status in {402, 403, 429} else _said_first(detail)
    if code in QUOTA_CODES or status == 402 or QUOTA_RE.search(said):
        return exceptions.QuotaExceededError, MODEL_BUDGET_RE.search(detail) and "model"
    if code in CONTENT_CODES:
        return exceptions.ContentRefusedError, None
    scope = "model" if "model" in code or MODEL_RE.search(detail) else None
    if status == 429:
        return exceptions.RateLimitedError, scope
    if status in {401, 403}:
        if CONTENT_RE.search(detail) and not ACCOUNT_RE.search(detail):
            return exceptions.ContentRefusedError, None
        return exceptions.AuthenticationError, scope
    if status in {503, 529}:
        return exceptions.OverloadedError, None
    if status in {408, 409} or status >= 500:
        return exceptions.TransientError, None
    if status == 400 and KEY_RE.search(said):
        return exceptions.AuthenticationError, None
    return exceptions.BadRequestError, None


def _said_first(detail):
    """Return what a service says before it repeats anything, or the one behind it in JSON."""
    with contextlib.suppress(ValueError, RecursionError):
        detail = _sentence(json.loads(detail)) or detail
    nested = NESTED_RE.search(detail)
    if nested and not QUOTE_RE.search(detail, 0, nested.start() + 1):
        detail = nested["words"]
    return QUOTE_RE.split(detail, maxsplit=1)[0]


def _asks_too_much(detail):
    """Return whether a request will be refused however long one waits: it is too large."""
    if afford := AFFORD_RE.search(detail):
        return _number(afford[1]) > 0  # who can afford none has no credit
    allowance = ALLOWANCE_RE.search(detail)
    return bool(
        TOO_LARGE_RE.search(detail) or (allowance and _number(allowance[2]) > _number(allowance[1]))
    )


def _number(text):
    return int(text.replace(",", ""))


def classify(error, heard=None):
    """Return the `GenerationError` that an exception of a provider's code means, else None.

    Libraries of providers wrap what happened in classes of their own: what caused it counts.

    :param Exception heard: what came out of the provider's call, where that is known: bytes that
        are no text are an answer that nobody can read there, and anywhere else a mistake
    """
    vague, is_told, is_heard = None, False, False
    while error is not None:
        is_heard = is_heard or error is heard
        if known := _classify_one(error):
            return known
        is_unread = _is_unread(error) or (is_heard and isinstance(error, UnicodeDecodeError))
        if is_unread and not is_told:
            return exceptions.UnreadableAnswerError(UNREADABLE)
        # Of JSON that people wrote, the family says so itself.
        is_told = is_told or "UserError" in _names_of(error)
        is_hidden = error.__suppress_context__
        if _is_vague(error):
            vague = vague or exceptions.UnknownOutcomeError(_words_of(error))
            is_hidden = False  # `ollama` raises its own in the place of what tells more
        error = error.__cause__ or (None if is_hidden else error.__context__)
    return vague


def _names_of(error):
    return [known.__name__ for known in type(error).__mro__]


def _is_vague(error):
    """Return whether an exception says that there was no answer, and not why.

    Python itself raises none of the very class `ConnectionError`, but classes below it.
    """
    return type(error) is ConnectionError or not VAGUE_ERRORS.isdisjoint(_names_of(error))


def _words_of(error):
    """Return what an exception says, else what it is called: many of `httpx` say nothing."""
    return redact(text_of(error) or type(error).__name__)


def _classify_one(error):
    if isinstance(error, exceptions.GenerationError):
        return error
    if known := _of_status(error):
        return known
    if not UNREADABLE_ERRORS.isdisjoint(_names_of(error)):
        return exceptions.UnreadableAnswerError(UNREADABLE)
    if isinstance(error, requests.RequestException):
        return _of_requests(error)
    if isinstance(error, OSError) and error.errno in DISK_FULL:
        return exceptions.DiskFullError(NO_ROOM)
    if isinstance(error, ConnectionRefusedError | socket.gaierror):
        return exceptions.TransientError(redact(error), unbilled=True)
    if isinstance(error, ConnectionError | TimeoutError) and not _is_vague(error):
        unbilled = isinstance(error, ConnectionError)
        return exceptions.UnknownOutcomeError(redact(error), unbilled=unbilled)
    return _of_library(error)


def _of_status(error):
    """Return what an exception means that tells the status of an HTTP answer, else None."""
    response = _response_of(error)
    stati = (getattr(response, "status_code", None), *_attributes(error, "status_code", "status"))
    status = next((one for one in stati if type(one) is int and 300 <= one < 600), None)
    if not status:
        return None
    code, detail = error_details(response) if response is not None else ("", "")
    if not detail:
        code, detail = _told_by(error)
    # What `raise_for_status()` says is the address; the provider's own words tell more.
    words = text_of(error)
    reason = next(iter(_attributes(response, "reason", "reason_phrase")), "")
    if status < 400:
        detail = MOVED % (_place(_headers_of(error, response).get("Location")) or "nowhere")
    text = f"HTTP {status}: {detail or reason or code}"
    if not detail and words and " for url" not in words:
        text = words
    return _meaning(status, code, detail, _headers_of(error, response), text)


def _place(location):
    """Return an address without what may be secret in it, empty for none."""
    try:
        parts = urlsplit(text_of(location or ""))
    except ValueError:
        return ""
    netloc = parts.netloc.rpartition("@")[2]
    return parts._replace(netloc=netloc, query="", fragment="").geturl()


def _attributes(thing, *names):
    """Return the attributes of a thing that are there and not empty."""
    return [value for name in names if (value := getattr(thing, name, None))]


def _response_of(error):
    """Return the HTTP answer that an exception is about, None where it keeps none.

    That of `ollama` keeps the status only, and hides the one of `httpx` that has the rest.
    """
    owners = [(error, "response"), (error, "raw_response")]
    if _attributes(error, "status_code"):
        owners.append((error.__cause__ or error.__context__, "response"))
    for owner, name in owners:
        response = getattr(owner, name, None)
        if type(getattr(response, "status_code", None)) is int:
            return response
    return None


def _headers_of(error, response):
    for headers in (
        *_attributes(response, "headers"),
        *_attributes(error, "headers", "response_headers"),
    ):
        if hasattr(headers, "items"):
            return headers
    return {}


def _told_by(error):
    """Return `(code, message)` of the answer that an exception has read and keeps."""
    for told in _attributes(error, "body", "error", "detail", "title"):
        body = told
        if isinstance(told, str):
            try:
                body = json.loads(told)
            except (ValueError, RecursionError):
                return "", told[:500]
        code, detail = _details_of(body)
        if detail:
            return code, detail
    return "", ""


def _is_unread(error):
    """Return whether an exception is of a library that could not read what it was answered.

    That is of `json`, or of `pydantic`, with which the libraries read. Their texts are no words
    for people: they have what was read in them.
    """
    return isinstance(error, json.JSONDecodeError) or (
        isinstance(error, ValueError) and callable(getattr(error, "errors", None))
    )


def _of_library(error):
    """Return what an exception means whose class is known by its name, else None."""
    names = _names_of(error)
    if names[0] == "OpenAIError":  # its client could not be made
        return exceptions.AuthenticationError(_words_of(error))
    if "LocalProtocolError" in names and "header value" in text_of(error):
        # The key is all that is not always the same in a header, and stands in the text.
        return exceptions.AuthenticationError(UNSENDABLE_KEY)
    if not STREAM_ERRORS.isdisjoint(names) and not _is_vague(error):
        code, detail = _told_by(error)
        words = detail or _words_of(error)
        if status := _status_in(getattr(error, "body", None)) or STREAM_CODES.get(code):
            return _meaning(status, code, detail, {}, words)
        if code in QUOTA_CODES or code in CONTENT_CODES or QUOTA_RE.search(_said_first(detail)):
            return _meaning(400, code, detail, {}, words)
        return exceptions.ProviderFailedError(redact(words))
    known = next((LIBRARY_ERRORS[name] for name in names if name in LIBRARY_ERRORS), None)
    unsent = known is exceptions.TransientError or _is_unanswered(error, names)
    return known and known(_words_of(error), unbilled=unsent)


def _is_unanswered(error, names):
    """Return whether a connection of `httpx` broke, as far as it tells, before the first byte."""
    return (
        "WriteError" in names
        or ("RemoteProtocolError" in names and "without sending a response" in text_of(error))
        or ("ReadError" in names and _is_reset(error))
    )


def _is_reset(error):
    """Return whether the cause of an exception is a connection that was reset."""
    while error is not None and not isinstance(error, ConnectionResetError):
        error = error.__cause__ or error.__context__
    return error is not None


def _words_of_connection(error):
    """Return what became of a connection: urllib3 tells it by addresses and names of classes."""
    if not any(isinstance(one, BaseException) for one in error.args):
        return redact(error)  # somebody's own words
    told, address = repr(error), getattr(error.request, "url", None) or ""
    host = urlsplit(address).netloc.rpartition("@")[2] or "The service"
    if isinstance(error, requests.exceptions.ProxyError):
        return f"The proxy on the way to {host} cannot be reached, or refuses."
    if "NewConnectionError" in told or "NameResolution" in told:
        return f"{host} cannot be reached."
    if isinstance(error, requests.ConnectTimeout):
        return f"{host} did not accept the connection in time."
    if isinstance(error, requests.ReadTimeout):
        return f"{host} did not answer in time."
    if isinstance(error, requests.exceptions.SSLError) and HANDSHAKE_RE.search(told):
        if re.search(r"certificate|hostname", told, re.IGNORECASE):
            return f"The certificate of {host} is not accepted."
        return f"{host} does not speak HTTPS as it should. Check the address."
    if "Connection aborted" in told:
        return f"{host} hung up before it answered."
    return f"{host} broke off its answer."


def _of_requests(error):
    if isinstance(error, requests.JSONDecodeError | requests.exceptions.ContentDecodingError):
        return exceptions.UnreadableAnswerError(UNREADABLE)
    if "UnreadableError" in _names_of(error):  # that of `bounded_http`, and of others like it
        return exceptions.UnreadableAnswerError(redact(error))
    is_encrypted = isinstance(error, requests.exceptions.SSLError)
    is_handshake = is_encrypted and HANDSHAKE_RE.search(repr(error))
    words = _words_of_connection(error)
    if isinstance(error, requests.ConnectTimeout) or is_handshake:
        return exceptions.TransientError(words, unbilled=True)
    cut = requests.ReadTimeout | requests.exceptions.ChunkedEncodingError
    if is_encrypted or isinstance(error, cut):
        return exceptions.UnknownOutcomeError(words)
    if isinstance(error, requests.ConnectionError):
        # `requests` says the same for "nobody listens" and for "hung up while answering";
        # only the former is sure to have done nothing.
        refused = "NewConnectionError" in repr(error) or "NameResolution" in repr(error)
        if refused:
            return exceptions.TransientError(words, unbilled=True)
        # So says urllib3 of a connection that was cut before the first byte of an answer.
        unbilled = "Connection aborted" in repr(error)
        return exceptions.UnknownOutcomeError(words, unbilled=unbilled)
    schemas = requests.exceptions.InvalidSchema | requests.exceptions.MissingSchema
    if isinstance(error, requests.exceptions.InvalidURL | schemas):
        return exceptions.BadRequestError(redact(error))
    return exceptions.TransientError(redact(error))
