"""The OpenAI HTTP interface over `requests`; knows nothing of Odoo."""

import contextlib
import json
import logging
from urllib.parse import urlsplit

import requests
import urllib3

from . import completion, errors, reading
from .connections import SESSIONS, Line

_logger = logging.getLogger(__name__)

CONNECT_TIMEOUT = 10
READ_TIMEOUT = 120
#: Characters that are told of something that is no answer.
EXCERPT = 100
#: How a stream ends whose connection breaks.
BROKEN = (requests.ConnectionError, requests.Timeout, requests.exceptions.ChunkedEncodingError)
STREAM_ERRORS = (requests.RequestException, urllib3.exceptions.HTTPError, OSError, ValueError)


def _until_end(events):
    """Yield events, and None after those of a whole answer, also where its connection breaks."""
    is_whole = False
    try:
        for event in events:
            is_whole = is_whole or bool(event and _is_last(event))
            yield event
    except BROKEN:
        if not is_whole:
            raise
    if is_whole:
        yield None


class OpenStream:
    """A streaming answer that may be closed from any thread."""

    def __init__(self, response, line):
        self.headers = response.headers
        self._line = line

    def close(self):
        """Cut the connection, and wake the thread that waits for the next chunk."""
        self._line.close()


class OpenAIClient:
    """Calls to one server, with one key."""

    def __init__(self, api_base, api_key="", timeout=None, on_connection=None):
        """Prepare calls, without making one.

        :param timeout: `(connect, read)` seconds in the place of the usual limits
        :param on_connection: callable that gets the `Line` of each connection, to `close()` it
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
        return self._json("GET", path, None, has)

    def post(self, path, payload, has=None):
        """Return the JSON body of an answer; see `get()`."""
        return self._json("POST", path, payload, has)

    def stream(self, path, payload, on_response=None):
        """Yield the JSON objects of a stream of events, as they arrive.

        A server that answers with one JSON body instead yields that body.

        :param on_response: callable that gets the `OpenStream`
        :raise requests.HTTPError: also for an error in the middle of the stream
        """
        with self._answer("POST", path, payload) as (response, line):
            if on_response:
                on_response(OpenStream(response, line))
            last, finished, has_choices = {}, False, False
            events = reading.read_events(self._lines(response), self.unreadable)
            for event in _until_end(events):
                if event is None:
                    finished = True
                    break
                self._check_error(event, response)
                has_choices = has_choices or "choices" in event
                last = event
                yield event
            if not finished:
                raise requests.exceptions.ChunkedEncodingError(f"{self.host} broke off its answer.")
            if not has_choices:
                raise self.unreadable(last)
            line.read_end(response)

    @contextlib.contextmanager
    def _answer(self, method, path, payload=None):
        """Yield the answer to a request, and its `Line`; one that was read to its end is kept."""
        line = Line(self.on_connection)
        with SESSIONS.of((self.api_base, self.api_key), self.timeout, line) as session:
            response = self._request(session, method, path, payload)
            with contextlib.closing(response):
                yield response, line

    def _request(self, session, method, path, payload):
        # Without an `auth`, requests would put the user's ~/.netrc in the place of the key.
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
        except (reading.NoRoomError, reading.UnreadableError):
            raise
        except STREAM_ERRORS as error:
            raise errors.connection_error(error, self.host) from None

    def _json(self, method, path, payload, has):
        with self._answer(method, path, payload) as (response, _line), self._told():
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
