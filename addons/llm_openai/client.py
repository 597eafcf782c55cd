"""The OpenAI HTTP interface over `requests`; knows nothing of Odoo."""

import contextlib
import json
import logging
import socket
from urllib.parse import urlsplit

import requests
import urllib3
from requests.adapters import HTTPAdapter

from . import completion, errors, reading

_logger = logging.getLogger(__name__)

CONNECT_TIMEOUT = 10
READ_TIMEOUT = 120
#: Characters that are told of something that is no answer.
EXCERPT = 100
STREAM_ERRORS = (requests.RequestException, urllib3.exceptions.HTTPError, OSError, ValueError)


class OpenConnection:
    """A connection that may be closed from any thread, before there is an answer too."""

    def __init__(self, sock):
        self._socket = sock

    def close(self):
        """End the connection, and wake the thread that waits for it."""
        # Not that of an SSL socket: it would let go of the encryption first.
        with contextlib.suppress(OSError):
            socket.socket.shutdown(self._socket, socket.SHUT_RDWR)


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


class _HeardConnection:
    """What a connection of urllib3 becomes of which others know."""

    def connect(self):
        result = super().connect()
        self.on_connection(OpenConnection(self.sock))
        return result


class TimeoutAdapter(HTTPAdapter):
    """Gives every request its two limits; Odoo's tests accept no pair as a request's `timeout`."""

    def __init__(self, timeout, on_connection=None):
        self.timeout = timeout
        self.on_connection = on_connection
        super().__init__()

    def get_connection_with_tls_context(self, *args, **kwargs):
        return self._heard(super().get_connection_with_tls_context(*args, **kwargs))

    def get_connection(self, *args, **kwargs):  # of an older requests
        return self._heard(super().get_connection(*args, **kwargs))

    def _heard(self, pool):
        """Have the connections of a pool told to who may want to close them."""
        if self.on_connection:
            bases = (_HeardConnection, pool.ConnectionCls)
            values = {"on_connection": staticmethod(self.on_connection)}
            pool.ConnectionCls = type("HeardConnection", bases, values)
        return pool

    def send(self, request, timeout=None, **kwargs):
        return super().send(request, timeout=timeout or self.timeout, **kwargs)


class OpenAIClient:
    """Calls to one server, with one key."""

    def __init__(self, api_base, api_key="", timeout=None, on_connection=None):
        """Prepare calls, without making one.

        :param timeout: `(connect, read)` seconds in the place of the usual limits
        :param on_connection: callable that gets each `OpenConnection`
        """
        self.on_connection = on_connection
        self.api_base = api_base.rstrip("/")
        self.api_key = api_key
        self.timeout = timeout or (CONNECT_TIMEOUT, READ_TIMEOUT)
        self.host = urlsplit(self.api_base).hostname or "the server"

    def get(self, path, has=None):
        """Return the JSON body of an answer.

        :param str has: the name without which it is none
        """
        return self._json(self._request("GET", path), has)

    def post(self, path, payload, has=None):
        """Return the JSON body of an answer; see `get()`."""
        return self._json(self._request("POST", path, payload), has)

    def stream(self, path, payload, on_response=None):
        """Yield the JSON objects of a stream of events, as they arrive.

        A server that answers with one JSON body instead yields that body.

        :param on_response: callable that gets the `OpenStream`
        :raise requests.HTTPError: also for an error in the middle of the stream
        """
        response = self._request("POST", path, payload)
        with contextlib.closing(response):
            if on_response:
                on_response(OpenStream(response))
            last, finished, has_choices = {}, False, False
            for event in reading.read_events(self._lines(response), self.unreadable):
                if event is None:
                    finished = True
                    break
                self._check_error(event, response)
                has_choices = has_choices or "choices" in event
                finished = finished or _is_last(event)
                last = event
                yield event
            if not finished:
                raise requests.exceptions.ChunkedEncodingError(f"{self.host} broke off its answer.")
            if not has_choices:
                raise self.unreadable(last)

    def _request(self, method, path, payload=None):
        # Without an `auth`, requests would put the user's ~/.netrc in the place of the key.
        session = requests.Session()
        for scheme in ("http://", "https://"):
            session.mount(scheme, TimeoutAdapter(self.timeout, self.on_connection))
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

    def _json(self, response, has):
        with contextlib.closing(response), self._told():
            content = reading.read_body(response, self.host)
        try:
            body = reading.parse_json(content)
        except ValueError:
            raise self.unreadable(content) from None
        self._check_error(body, response)
        if has and has not in body:
            raise self.unreadable(content)
        return body

    def _check_error(self, body, response):
        """Raise what a server tells within a success, as if it had told it by a status."""
        if errors.is_error(body):
            raise errors.body_error(body, response, self.api_key)

    def unreadable(self, got):
        """Return the exception that says what was got in the place of an answer.

        :param got: bytes, or the object that is none
        """
        text = got.decode("utf-8", "replace") if isinstance(got, bytes) else json.dumps(got)
        start = errors.redact(" ".join(text[:EXCERPT].split()), self.api_key)
        _logger.info("%s answered with something that is no answer", self.host)
        return reading.UnreadableError(
            f"{self.host} answered with something that is no answer: check the API base."
            f" It begins with: {start}"
        )


def _is_last(event):
    return any(choice.get("finish_reason") for choice in completion.choices_of(event))
