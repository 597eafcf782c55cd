"""The queue interface of fal over `requests`; knows nothing of Odoo."""

import contextlib
from urllib.parse import urlsplit

import requests

from odoo.addons.llm_generate_job import exceptions
from odoo.addons.llm_generate_job.protocol import bounded_http
from odoo.addons.llm_generate_job.protocol.bounded_http import (
    NotPublicError,
    PublicAdapter,
    TimeoutAdapter,
)
from odoo.addons.llm_generate_job.protocol.http_errors import classify, from_response, redact
from odoo.addons.llm_generate_job.protocol.sanitize import text_of

API_BASE = "https://queue.fal.run"
#: Domains of fal: the key goes there, and to the configured address, only.
FAL_DOMAINS = ("fal.run", "falrun.com", "fal.ai")
CONNECT_TIMEOUT = 10
READ_TIMEOUT = 60
#: Seconds to connect, and to read: a webhook waits for the keys, and is answered within a second.
KEYS_TIMEOUT = (0.4, 0.4)
#: Bytes of the keys' document.
KEYS_LIMIT = 64 * 1024
STRANGE_ADDRESS = "fal named an address that is not its own."
INNER_ADDRESS = "fal named an address that is none of the internet."


class TooLargeError(Exception):
    """A file is larger than allowed."""


class AddressRefusedError(exceptions.ProviderFailedError):
    """What fal named is on this machine, or in its network."""


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
            return bounded_http.read_json(response)

    def download(self, url, limit):
        """Return the content and the declared type of a file; the key is not sent.

        :param int limit: bytes
        :raise TooLargeError: for a larger file
        :raise GenerationError: a subclass that tells what else went wrong
        """
        with self._open("GET", url) as response:
            if response.status_code != 200:
                raise self._error(response)
            try:
                content = bounded_http.read_body(response, limit)
            except bounded_http.TooLargeError:
                raise TooLargeError from None
            return content, response.headers.get("Content-Type", "")

    def fetch_keys(self, url):
        """Return the document with the public keys of webhooks; our key is not sent."""
        with self._open("GET", url, adapter=TimeoutAdapter(KEYS_TIMEOUT)) as response:
            if response.status_code != 200:
                raise self._error(response)
            return bounded_http.read_json(response, KEYS_LIMIT, seconds=sum(KEYS_TIMEOUT))

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

    def _adapter(self, url):
        """Return what connects to an address: the configured host may be anywhere."""
        is_configured = self._is_configured(urlsplit(url))
        adapter_class = TimeoutAdapter if is_configured else PublicAdapter
        return adapter_class((CONNECT_TIMEOUT, READ_TIMEOUT))

    @contextlib.contextmanager
    def _open(self, method, url, auth=None, adapter=None, **kwargs):
        adapter = adapter or self._adapter(url)
        with requests.Session() as session:
            for scheme in ("http://", "https://"):
                session.mount(scheme, adapter)
            try:
                with session.request(
                    method,
                    url,
                    # Without one, requests would put the user's ~/.netrc in the place of the key.
                    auth=auth or (lambda request: request),
                    headers=bounded_http.HEADERS,
                    allow_redirects=False,
                    stream=True,
                    **kwargs,
                ) as response:
                    yield response
            except NotPublicError:
                raise AddressRefusedError(INNER_ADDRESS) from None
            except bounded_http.UnreadableError as error:
                raise exceptions.UnreadableAnswerError(str(error)) from None
            except requests.RequestException as error:
                # Its text has the address, and that the address of our webhook.
                meaning = type(classify(error))
                host = urlsplit(url).hostname
                raise meaning(f"The call to {host} failed: {type(error).__name__}.") from None

    def _error(self, response):
        """Return what an answer of status 300 or more means, in the service's own words."""
        copy = bounded_http.start_of(response)
        sentence, kind = error_details(copy)
        if self.api_key:
            sentence = sentence.replace(self.api_key, "[hidden]")
        sentence = redact(f"HTTP {copy.status_code}: {sentence or copy.reason}")
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
    except (ValueError, RecursionError):
        return response.text[:500], ""
    detail = body.get("detail") if isinstance(body, dict) else body
    if not isinstance(detail, list):
        kind = body.get("error_type") if isinstance(body, dict) else ""
        return text_of(detail or body)[:500], text_of(kind or "")
    errors = [error for error in detail if isinstance(error, dict)]
    sentences = [
        ": ".join(filter(None, (_path(error), text_of(error.get("msg") or "")))) for error in errors
    ]
    return "; ".join(sentences)[:500], " ".join(text_of(error.get("type")) for error in errors)


def _path(error):
    location = error.get("loc") if isinstance(error.get("loc"), list) else []
    return ".".join(text_of(part) for part in location if part != "body")
