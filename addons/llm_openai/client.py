"""The OpenAI HTTP interface over `requests`; knows nothing of Odoo."""

import contextlib
import logging
from urllib.parse import urlsplit

import requests
import urllib3
from requests.adapters import HTTPAdapter

from . import errors, reading

_logger = logging.getLogger(__name__)

CONNECT_TIMEOUT = 10
READ_TIMEOUT = 120
STREAM_ERRORS = (requests.RequestException, urllib3.exceptions.HTTPError, OSError, ValueError)


class OpenStream:
    """A streaming answer that may be closed from any thread."""

    def __init__(self, response):
        self.response = response
        self.headers = response.headers

    def close(self):
        """Cut the connection, and wake the thread that waits for the next chunk."""
        # Closing a socket does not wake a blocked read: shut it down, its reader closes it.
        try:
            self.response.raw.shutdown()
        except (AttributeError, RuntimeError, ValueError, OSError):
            # Released already, or an urllib3 without shutdown(): nobody can be woken.
            self.response.close()


class TimeoutAdapter(HTTPAdapter):
    """Gives every request its two limits; Odoo's tests accept no pair as a request's `timeout`."""

    def __init__(self, timeout):
        super().__init__()
        self.timeout = timeout

    def send(self, request, timeout=None, **kwargs):
        return super().send(request, timeout=timeout or self.timeout, **kwargs)


class OpenAIClient:
    """Calls to one server, with one key."""

    def __init__(self, api_base, api_key="", timeout=None):
        """Prepare calls, without making one.

        :param timeout: `(connect, read)` seconds in the place of the usual limits
        """
        self.api_base = api_base.rstrip("/")
        self.api_key = api_key
        self.timeout = timeout or (CONNECT_TIMEOUT, READ_TIMEOUT)
        self.host = urlsplit(self.api_base).hostname or "the server"

    def get(self, path):
        """Return the JSON body of an answer."""
        return self._json(self._request("GET", path))

    def post(self, path, payload):
        """Return the JSON body of an answer."""
        return self._json(self._request("POST", path, payload))

    def stream(self, path, payload, on_response=None):
        """Yield the JSON objects of a stream of events, as they arrive.

        A server that answers with one JSON body instead yields that body.

        :param on_response: callable that gets the `OpenStream`
        """
        response = self._request("POST", path, payload)
        with contextlib.closing(response):
            if "json" in response.headers.get("Content-Type", ""):
                yield self._json(response)
                return
            if on_response:
                on_response(OpenStream(response))
            finished = False
            for line in self._lines(response):
                if not line.startswith(b"data:"):
                    continue
                data = line[5:].strip()
                if data == b"[DONE]":
                    return
                event = self._loads(data)
                finished = finished or _is_last(event)
                yield event
            if not finished:
                raise requests.exceptions.ChunkedEncodingError(f"{self.host} broke off its answer.")

    def _request(self, method, path, payload=None):
        # Without an `auth`, requests would put the user's ~/.netrc in the place of the key.
        session = requests.Session()
        for scheme in ("http://", "https://"):
            session.mount(scheme, TimeoutAdapter(self.timeout))
        try:
            response = session.request(
                method,
                f"{self.api_base}/{path}",
                json=payload,
                auth=self._authenticate,
                headers={"Accept": "text/event-stream, application/json", **reading.HEADERS},
                allow_redirects=False,
                stream=True,
            )
        except requests.RequestException as error:
            raise errors.connection_error(error, self.host) from None
        if response.status_code >= 300:
            with contextlib.closing(response):
                raise errors.http_error(response, self.api_key)
        return response

    def _authenticate(self, request):
        if self.api_key:
            request.headers["Authorization"] = f"Bearer {self.api_key}"
        return request

    def _lines(self, response):
        """Yield the lines of a body, each as soon as it is there."""
        with self._told():
            yield from reading.read_lines(response, self.host)

    @contextlib.contextmanager
    def _told(self):
        """Have what goes wrong with a connection told without the address."""
        try:
            yield
        except reading.UnreadableError:
            raise
        except STREAM_ERRORS as error:
            raise errors.connection_error(error, self.host) from None

    def _json(self, response):
        with contextlib.closing(response), self._told():
            content = reading.read_body(response, self.host)
        return self._loads(content)

    def _loads(self, data):
        try:
            return reading.parse_json(data)
        except ValueError:
            _logger.info("%s answered with something else than JSON", self.host)
            raise requests.ConnectionError(
                f"{self.host} answered with something else than JSON: check the API base."
            ) from None


def _is_last(event):
    return bool(
        event.get("error")
        or any(choice.get("finish_reason") for choice in event.get("choices") or ())
    )
