"""The queue interface of fal over `requests`; knows nothing of Odoo."""

import contextlib
import json
from urllib.parse import urlsplit

import requests
from requests.adapters import HTTPAdapter

from odoo.addons.llm_generate_job import exceptions
from odoo.addons.llm_generate_job.runner.http_errors import classify, from_response, scrub

API_BASE = "https://queue.fal.run"
#: Domains of fal: the key goes there, and to the configured address, only.
FAL_DOMAINS = ("fal.run", "falrun.com", "fal.ai")
CONNECT_TIMEOUT = 10
READ_TIMEOUT = 60
#: Bytes of an answer's JSON.
JSON_LIMIT = 20_000_000
#: Seconds to connect, and to read: a webhook waits for the keys, and is answered within a second.
KEYS_TIMEOUT = (0.4, 0.4)
CHUNK = 64 * 1024
STRANGE_ADDRESS = "fal named an address that is not its own."


class TooLargeError(Exception):
    """What is to be read is larger than allowed."""


class TimeoutAdapter(HTTPAdapter):
    """Gives every request its two limits; Odoo's tests accept no pair as a request's `timeout`."""

    def __init__(self, timeout):
        super().__init__()
        self.timeout = timeout or (CONNECT_TIMEOUT, READ_TIMEOUT)

    def send(self, request, timeout=None, **kwargs):
        return super().send(request, timeout=timeout or self.timeout, **kwargs)


class FalClient:
    """Calls with one key. What goes wrong is told by the exceptions of `llm_generate_job`."""

    def __init__(self, api_base=None, api_key=""):
        self.api_base = (api_base or API_BASE).rstrip("/")
        self.api_key = api_key
        parts = urlsplit(self.api_base)
        self.origin = (parts.scheme, parts.netloc)
        self.is_fal = _is_fal(parts)

    def call(self, method, url, payload=None, params=None, accept=()):
        """Return the JSON object that an address of the queue answers with.

        :param accept: statuses of 400 and more whose bodies are answers, too
        :raise GenerationError: a subclass that tells what went wrong
        """
        if not self._is_ours(url):
            raise exceptions.ProviderFailedError(STRANGE_ADDRESS)
        with self._open(method, url, self._authenticate, json=payload, params=params) as response:
            if response.status_code >= 300 and response.status_code not in accept:
                raise self._error(response)
            return self._read_json(response)

    def download(self, url, limit):
        """Return the content and the declared type of a file; the key is not sent.

        :param int limit: bytes
        :raise TooLargeError: for a larger file
        """
        with self._open("GET", url, lambda request: request) as response:
            if response.status_code != 200:
                raise self._error(response)
            content_type = response.headers.get("Content-Type", "").partition(";")[0].strip()
            return self._read(response, limit), content_type.lower()

    def fetch_keys(self, url):
        """Return the document with the public keys of webhooks; our key is not sent."""
        with self._open("GET", url, lambda request: request, KEYS_TIMEOUT) as response:
            if response.status_code != 200:
                raise self._error(response)
            return self._read_json(response)

    def may_follow(self, url):
        """Tell whether a file's address is encrypted, or on the configured host."""
        parts = urlsplit(url)
        return (parts.scheme == "https" and bool(parts.hostname)) or self._is_configured(parts)

    def _is_ours(self, url):
        parts = urlsplit(url)
        return (parts.scheme == "https" and _is_fal(parts)) or self._is_configured(parts)

    def _is_configured(self, parts):
        return (parts.scheme, parts.netloc) == self.origin

    def _authenticate(self, request):
        request.headers["Authorization"] = f"Key {self.api_key}"
        return request

    @contextlib.contextmanager
    def _open(self, method, url, auth, timeout=None, **kwargs):
        # Without an `auth`, requests would put the user's ~/.netrc in the place of the key.
        with requests.Session() as session:
            for scheme in ("http://", "https://"):
                session.mount(scheme, TimeoutAdapter(timeout))
            try:
                with session.request(
                    method, url, auth=auth, allow_redirects=False, stream=True, **kwargs
                ) as response:
                    yield response
            except requests.RequestException as error:
                # Its text has the address, and that the address of our webhook.
                meaning = type(classify(error))
                host = urlsplit(url).hostname
                raise meaning(f"The call to {host} failed: {type(error).__name__}.") from None

    def _read(self, response, limit):
        chunks, size = [], 0
        for chunk in response.iter_content(CHUNK):
            size += len(chunk)
            if size > limit:
                raise TooLargeError
            chunks.append(chunk)
        return b"".join(chunks)

    def _read_json(self, response):
        try:
            body = json.loads(self._read(response, JSON_LIMIT))
        except (ValueError, TooLargeError):
            body = None
        if not isinstance(body, dict):
            raise exceptions.UnknownOutcomeError(
                f"{urlsplit(response.url).hostname} answered with something else than an object."
            )
        return body

    def _error(self, response):
        """Return what an answer of status 300 or more means, in the service's own words."""
        copy = requests.Response()
        copy.status_code, copy.reason = response.status_code, response.reason
        copy.headers = response.headers.copy()
        with contextlib.suppress(TooLargeError):
            copy._content = self._read(response, CHUNK)
        sentence, kind = error_details(copy)
        if self.api_key:
            sentence = sentence.replace(self.api_key, "[hidden]")
        sentence = scrub(f"HTTP {copy.status_code}: {sentence or copy.reason}")
        error = from_response(copy, sentence)
        if "content_policy" in kind:
            return exceptions.ContentRefusedError(sentence)
        return error


def _is_fal(parts):
    host = parts.hostname or ""
    return any(host == domain or host.endswith(f".{domain}") for domain in FAL_DOMAINS)


def error_details(response):
    """Return the sentence and the type of an error's body.

    The queue answers with a sentence in `detail`, a model with a list of what is wrong.
    """
    try:
        body = response.json()
    except ValueError:
        return response.text[:500], ""
    detail = body.get("detail") if isinstance(body, dict) else body
    if not isinstance(detail, list):
        kind = body.get("error_type") if isinstance(body, dict) else ""
        return str(detail or body)[:500], str(kind or "")
    errors = [error for error in detail if isinstance(error, dict)]
    sentences = [
        ": ".join(filter(None, (_path(error), str(error.get("msg") or "")))) for error in errors
    ]
    return "; ".join(sentences)[:500], " ".join(str(error.get("type")) for error in errors)


def _path(error):
    location = error.get("loc") if isinstance(error.get("loc"), list) else []
    return ".".join(str(part) for part in location if part != "body")
