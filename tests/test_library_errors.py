"""What the libraries of vendors raise, as they raise it; none of them has to be installed.

The classes are named, derived and chained as those of `openai` 3, `anthropic` 2, `httpx` 0.28 and
`httpx2`, `mistralai` 1, `ollama` 0.6, `replicate` 1 and `fal_client` 1 were seen to be.
"""

import json
import socket
import ssl

import requests

from odoo.exceptions import UserError, ValidationError
from odoo.tests import BaseCase, tagged

from .. import exceptions
from ..protocol.http_errors import UNREADABLE, UNSENDABLE_KEY, classify, no_answer
from ..protocol.sanitize import redact_error
from .test_http_errors import MEANINGS, WORDS

KEY = "plain-word-of-the-key"
PROMPT = "the prompt of somebody"


def library(*names):
    """Return a class with these names in its method resolution order, as a library has it."""
    cls = Exception
    for name in reversed(names):
        cls = type(name, (cls,), {})
    return cls


TRANSPORT = ("TransportError", "RequestError", "HTTPError")
OPENAI = ("APIError", "OpenAIError")


class Response:
    """One of `httpx`: it has no `reason`, and an unread one refuses to tell its body."""

    def __init__(self, status, body=None, headers=None, *, is_read=True):
        self.status_code, self.headers, self.is_read = status, headers or {}, is_read
        self.reason_phrase = "Its Reason"
        self.text = body if isinstance(body, str) else json.dumps(body or {})

    def json(self):
        if not self.is_read:
            raise RuntimeError  # as `ResponseNotRead` is one
        return json.loads(self.text)


def raised(error, *causes, hidden=False):
    """Return an error that was raised from others, one from the next; or in their place."""
    outer = error
    for cause in causes:
        if hidden and outer is error:
            outer.__context__, outer.__suppress_context__ = cause, True
        else:
            outer.__cause__ = cause
        outer = cause
    return error


def having(error, /, **attributes):
    vars(error).update(attributes)
    return error


def of_httpx(name, base, text, origin=None):
    """Return an error of `httpx`, raised from the one of `httpcore` that is named like it."""
    inner = library(name, base)(text)
    if origin:
        raised(inner, origin, hidden=True)
    return raised(library(name, base, *TRANSPORT)(text), inner)


def of_stainless(status, body, response, family="OpenAIError"):
    error = library("APIStatusError", "APIError", family)(f"Error code: {status} - {body}")
    return having(error, status_code=status, body=body, response=response)


class MistralError(Exception):
    """Keeps its message beside its arguments, and says that."""

    def __init__(self, message, raw_response):
        self.message, self.raw_response = message, raw_response
        self.status_code, self.headers = raw_response.status_code, raw_response.headers
        self.body = raw_response.text

    def __str__(self):
        return self.message


class ReplicateError(library("ReplicateException")):
    """Keeps no response and no headers."""

    def __init__(self, status, title=None, detail=None):
        self.status, self.title, self.detail = status, title, detail

    def __str__(self):
        return f"ReplicateError Details:\nstatus: {self.status}\ndetail: {self.detail}"


def by_openai(status, headers):
    error = {"message": "Told so.", "type": "some_type", "param": None, "code": None}
    return of_stainless(status, error, Response(status, {"error": error}, headers))


def by_anthropic(status, headers):
    body = {"type": "error", "error": {"type": "some_error", "message": "Told so."}}
    return of_stainless(status, body, Response(status, body, headers), "AnthropicError")


def by_mistral(status, headers):
    body = {"object": "error", "message": "Told so.", "type": "some_type", "code": "1300"}
    response = Response(status, body, headers)
    return MistralError(f"API error occurred: Status {status}. Body: {response.text}", response)


def by_ollama(status, headers):
    error = having(library("ResponseError")("Told so."), error="Told so.", status_code=status)
    origin = library("HTTPStatusError", "HTTPError")("for url 'https://example.com'")
    response = Response(status, {"error": "Told so."}, headers)
    return raised(error, having(origin, response=response), hidden=True)


def by_fal(status, headers):
    response = Response(status, {"detail": "Told so."}, headers)
    error = library("FalClientHTTPError", "FalClientError")("Told so.")
    return having(error, status_code=status, response_headers=headers, response=response)


def by_httpx(status, headers):
    error = library("HTTPStatusError", "HTTPError")("Client error for url 'https://example.com'")
    return having(error, response=Response(status, {"error": "Told so."}, headers))


SERVICES = (by_openai, by_anthropic, by_mistral, by_ollama, by_fal, by_httpx)


@tagged("post_install", "-at_install")
class TestLibraryErrors(BaseCase):
    def _assert_means(self, error, error_class, text=None):
        known = classify(error)
        self.assertIs(type(known), error_class)
        if text is not None:
            self.assertEqual(str(known), text)
        return known

    # === STATUS === #

    def test_each_library_tells_the_status(self):
        for service in SERVICES:
            for status, error_class in MEANINGS.items():
                with self.subTest(service=service.__name__, status=status):
                    error = service(status, {})
                    self._assert_means(error, error_class, f"HTTP {status}: Told so.")

    def test_each_library_tells_whose_fault_it_is(self):
        for scope, table in WORDS.items():
            for status, code, words, error_class in table:
                error = {"message": words, "type": "some_type", "code": code}
                for body in ({"error": error}, {"type": "error", "error": error}):
                    for family in ("OpenAIError", "AnthropicError"):
                        told = of_stainless(status, body, Response(status, body), family)
                        with self.subTest(status=status, words=words, family=family):
                            self.assertEqual(self._assert_means(told, error_class).scope, scope)
                unread = having(
                    library("HTTPStatusError", "HTTPError")("for url 'https://example.com'"),
                    response=Response(status, {"error": error}),
                )
                with self.subTest(status=status, words=words, family="httpx"):
                    self.assertEqual(self._assert_means(unread, error_class).scope, scope)

    def test_each_library_tells_the_wait(self):
        for service in SERVICES:
            for headers in ({"Retry-After": "7"}, {"retry-after-ms": "7000"}):
                with self.subTest(service=service.__name__, headers=headers):
                    self.assertEqual(classify(service(429, headers)).retry_after, 7.0)

    def test_replicate_tells_the_status_and_the_wait_in_its_sentence(self):
        for status, error_class in MEANINGS.items():
            with self.subTest(status=status):
                error = ReplicateError(status, "Title", "Your rate limit resets in ~30s.")
                self.assertEqual(self._assert_means(error, error_class).retry_after, 30.0)
        self._assert_means(
            ReplicateError(402, "Insufficient credit"),
            exceptions.QuotaExceededError,
            "HTTP 402: Insufficient credit",
        )

    def test_a_stream_that_was_not_read_has_its_status_all_the_same(self):
        error = library("HTTPStatusError")("Server error for url 'https://example.com/secret'")
        having(error, response=Response(429, "{}", {"Retry-After": "7"}, is_read=False))
        known = self._assert_means(error, exceptions.RateLimitedError, "HTTP 429: Its Reason")
        self.assertEqual(known.retry_after, 7.0)
        error.body = {"message": "Read by the library."}
        self.assertEqual(str(classify(error)), "HTTP 429: Read by the library.")

    def test_what_is_wrong_is_told_and_not_what_was_sent(self):
        wrong = [{"loc": ["body", "prompt"], "msg": "Too long", "type": "x", "input": PROMPT}]
        bodies = (
            {"detail": wrong},
            {"object": "error", "message": {"detail": wrong}, "type": "invalid_request_error"},
        )
        for body in bodies:
            for error in (
                having(library("FalClientHTTPError")(str(wrong)), response=Response(422, body)),
                MistralError(f"Status 422. Body: {body}", Response(422, body)),
            ):
                with self.subTest(body=body, error=type(error).__name__):
                    text = "HTTP 422: body.prompt: Too long"
                    self._assert_means(error, exceptions.BadRequestError, text)

    def test_a_code_in_a_list_of_what_is_wrong_counts(self):
        body = {"detail": [{"msg": "No.", "type": "content_policy_violation"}]}
        error = having(library("FalClientHTTPError")("No."), response=Response(422, body))
        self._assert_means(error, exceptions.ContentRefusedError)

    def test_who_has_no_code_for_it_tells_in_words_that_there_is_no_credit(self):
        for status, words in (
            (400, "Your credit balance is too low to access the Anthropic API."),
            (403, "User is locked. Reason: Exhausted balance. Top up your balance."),
        ):
            with self.subTest(words=words):
                body = {"type": "error", "error": {"type": "some_error", "message": words}}
                error = of_stainless(status, body, Response(status, body))
                self._assert_means(error, exceptions.QuotaExceededError)

    def test_an_answer_that_is_no_error_is_none(self):
        error = having(library("HTTPStatusError")("odd"), response=Response(204), status_code=True)
        self.assertIsNone(classify(error))

    # === NO ANSWER === #

    def test_whether_anything_was_sent_decides(self):
        refused = ConnectionRefusedError(111, "Connection refused")
        unknown_host = socket.gaierror(-2, "Name or service not known")
        table = [
            ("ConnectError", "NetworkError", refused, exceptions.TransientError),
            ("ConnectError", "NetworkError", unknown_host, exceptions.TransientError),
            ("ConnectError", "NetworkError", ssl.SSLError("wrong"), exceptions.TransientError),
            ("ConnectTimeout", "TimeoutException", TimeoutError(), exceptions.TransientError),
            ("PoolTimeout", "TimeoutException", None, exceptions.TransientError),
            ("ProxyError", "TransportError", None, exceptions.TransientError),
            ("ReadTimeout", "TimeoutException", TimeoutError(), exceptions.UnknownOutcomeError),
            ("WriteTimeout", "TimeoutException", None, exceptions.UnknownOutcomeError),
            ("ReadError", "NetworkError", ConnectionResetError(), exceptions.UnknownOutcomeError),
            ("WriteError", "NetworkError", None, exceptions.UnknownOutcomeError),
            ("RemoteProtocolError", "ProtocolError", None, exceptions.UnknownOutcomeError),
            ("SSEError", "TransportError", None, exceptions.UnknownOutcomeError),
            ("UnsupportedProtocol", "TransportError", None, exceptions.BadRequestError),
        ]
        for name, base, origin, error_class in table:
            wrapped = {
                "httpx": lambda error: error,
                "httpcore": lambda error: error.__cause__,
                "openai": lambda error: raised(
                    library("APIConnectionError", *OPENAI)("Connection error."), error
                ),
                "the family": lambda error: raised(UserError("It failed."), error),
            }
            for who, wrap in wrapped.items():
                with self.subTest(name=name, who=who, origin=origin):
                    error = wrap(of_httpx(name, base, "Its words.", origin))
                    self._assert_means(error, error_class, "Its words.")

    def test_what_was_cut_before_the_first_byte_cost_nothing(self):
        gone = "Server disconnected without sending a response."
        table = [
            ("ConnectError", "NetworkError", "", ConnectionRefusedError(), True),
            ("ReadError", "NetworkError", "", ConnectionResetError(), True),
            ("WriteError", "NetworkError", "", None, True),
            ("RemoteProtocolError", "ProtocolError", gone, None, True),
            ("RemoteProtocolError", "ProtocolError", "incomplete chunked read", None, False),
            ("ReadError", "NetworkError", "", None, False),
            ("ReadTimeout", "TimeoutException", "", TimeoutError(), False),
        ]
        for name, base, words, origin, unbilled in table:
            error = of_httpx(name, base, words, origin)
            of_openai = raised(library("APIConnectionError", *OPENAI)("No."), error)
            for one in (error, of_openai):
                with self.subTest(name=name, words=words, error=type(one).__name__):
                    self.assertEqual(classify(one).unbilled, unbilled)

    def test_an_error_without_words_is_called_by_its_name(self):
        error = library("ReadTimeout", "TimeoutException", *TRANSPORT)("")
        self._assert_means(error, exceptions.UnknownOutcomeError, "ReadTimeout")

    def test_a_connection_error_that_tells_no_cause_may_have_done_the_work(self):
        for name in ("APIConnectionError", "APITimeoutError"):
            error = library(name, "APIConnectionError", *OPENAI)("Connection error.")
            with self.subTest(name=name):
                self._assert_means(error, exceptions.UnknownOutcomeError, "Connection error.")

    def test_ollama_hides_what_tells_more(self):
        inner = of_httpx("ConnectError", "NetworkError", "Refused.", ConnectionRefusedError())
        error = raised(ConnectionError("Failed to connect to Ollama."), inner, hidden=True)
        self._assert_means(error, exceptions.TransientError, "Refused.")
        error = ConnectionError("Failed to connect.")
        self._assert_means(error, exceptions.UnknownOutcomeError, "Failed to connect.")

    def test_what_is_hidden_elsewhere_stays_so(self):
        error = raised(ValueError("Mine."), ConnectionRefusedError(), hidden=True)
        self.assertIsNone(classify(error))

    # === ERRORS WITHIN A STREAM === #

    def test_a_stream_tells_its_errors_by_their_codes(self):
        table = [
            ("overloaded_error", exceptions.OverloadedError),
            ("rate_limit_error", exceptions.RateLimitedError),
            ("authentication_error", exceptions.AuthenticationError),
            ("billing_error", exceptions.QuotaExceededError),
            ("insufficient_quota", exceptions.QuotaExceededError),
            ("content_filter", exceptions.ContentRefusedError),
            ("invalid_request_error", exceptions.BadRequestError),
            ("server_error", exceptions.ProviderFailedError),
        ]
        for code, error_class in table:
            body = {"type": "error", "error": {"type": code, "message": "Told so."}}
            unread = Response(200, "{}", is_read=False)
            of_anthropic = of_stainless(200, body, unread, "AnthropicError")
            inner = {"message": "Told so.", "code": code}
            of_openai = having(library(*OPENAI)("Told so."), body=inner, code=code)
            for error in (of_anthropic, of_openai):
                with self.subTest(code=code, error=type(error).__mro__):
                    self._assert_means(error, error_class, "Told so.")

    def test_ollama_tells_a_sentence_in_its_stream(self):
        error = having(library("ResponseError")("x"), error="The runner stopped.", status_code=-1)
        self._assert_means(error, exceptions.ProviderFailedError, "The runner stopped.")

    # === NO ERRORS OF THE SERVICE === #

    def test_a_client_that_cannot_be_made_has_no_key(self):
        for name in ("OpenAIError", "CredentialsError", "MissingCredentialsError"):
            with self.subTest(name=name):
                self._assert_means(library(name)("No key."), exceptions.AuthenticationError)

    def test_a_key_that_cannot_be_sent_is_not_told(self):
        text = f"Illegal header value b'Bearer {KEY}\\n'"
        error = of_httpx("LocalProtocolError", "ProtocolError", text)
        for one in (error, raised(library("APIConnectionError", *OPENAI)("No."), error)):
            self._assert_means(one, exceptions.AuthenticationError, UNSENDABLE_KEY)
        error = of_httpx("LocalProtocolError", "ProtocolError", "Too little data.")
        self._assert_means(error, exceptions.BadRequestError, "Too little data.")

    def test_an_answer_that_nobody_can_read_may_have_been_paid_for(self):
        unread = type("ValidationError", (ValueError,), {"errors": lambda _self: []})
        for error in (
            json.JSONDecodeError("Expecting value", PROMPT, 0),
            requests.JSONDecodeError("Expecting value", PROMPT, 0),
            requests.exceptions.ContentDecodingError(PROMPT),
            unread(f"1 validation error [input_value={PROMPT}]"),
            MistralUnread("Response validation failed", Response(200, PROMPT)),
            library("APIResponseValidationError", *OPENAI)(PROMPT),
            library("DecodingError", "RequestError")(PROMPT),
        ):
            with self.subTest(error=type(error)):
                self._assert_means(error, exceptions.UnreadableAnswerError, UNREADABLE)

    def test_an_error_within_a_stream_is_that_of_its_code(self):
        for code, kind in (
            (429, exceptions.RateLimitedError),
            ("429", exceptions.RateLimitedError),
            (503, exceptions.OverloadedError),
            (401, exceptions.AuthenticationError),
            (402, exceptions.QuotaExceededError),
            (400, exceptions.BadRequestError),
            (500, exceptions.TransientError),
            (200, exceptions.ProviderFailedError),
        ):
            with self.subTest(code):
                error = library("APIError", *OPENAI)("It broke.")
                error.body = {"code": code, "message": "It broke."}
                self._assert_means(error, kind, "It broke.")
                told = no_answer({"error": error.body}, "Strange.")
                self.assertEqual((type(told), str(told)), (kind, "It broke."))

    def test_what_is_no_answer_says_what_was_got(self):
        told = no_answer({"id": PROMPT * 100}, "It is none.")
        self.assertIs(type(told), exceptions.UnreadableAnswerError)
        self.assertTrue(str(told).startswith('It is none. It begins with: {"id": '))
        self.assertLess(len(str(told)), 200)

    def test_json_that_people_wrote_is_not_taken_for_an_answer(self):
        error = raised(UserError("This is no JSON."), json.JSONDecodeError("No", "{", 0))
        self.assertIsNone(classify(error))
        self.assertIsNone(classify(ValidationError("Not so.")))

    def test_bytes_that_are_no_text_are_an_answer_only_out_of_the_providers_call(self):
        unread, mine = (UnicodeDecodeError("utf-8", b"\xff", 0, 1, "odd") for _one in range(2))
        for heard in (unread, library("DecodeError")("It failed.")):
            with self.subTest(heard=heard):
                raised(heard, *[unread] if heard is not unread else [])
                known = classify(raised(RuntimeError("The thread's."), heard), heard)
                self.assertIs(type(known), exceptions.UnreadableAnswerError)
                self.assertEqual(str(known), UNREADABLE)
        self.assertIsNone(classify(mine))
        self.assertIsNone(classify(raised(mine, ValueError("Caught.")), mine.__cause__))
        self.assertIsNone(classify(mine, unread))

    def test_other_refusals_of_libraries_are_known(self):
        table = [
            ("RequestError", exceptions.BadRequestError),
            ("ContentFilterFinishReasonError", exceptions.ContentRefusedError),
            ("ModelError", exceptions.ProviderFailedError),
        ]
        for name, error_class in table:
            with self.subTest(name=name):
                self._assert_means(library(name)("Its words."), error_class, "Its words.")

    def test_an_error_of_the_family_is_judged_by_its_cause(self):
        for service in SERVICES:
            with self.subTest(service=service.__name__):
                error = raised(UserError("It failed."), service(429, {"Retry-After": "7"}))
                known = self._assert_means(error, exceptions.RateLimitedError)
                self.assertEqual(known.retry_after, 7.0)

    # === CREDENTIALS === #

    def test_no_error_tells_a_credential(self):
        secret = "sk-abcdefgh12345678"
        for service in SERVICES:
            error = service(401, {})
            response = getattr(error, "response", None) or getattr(error, "raw_response", None)
            for one in filter(None, (response, getattr(error.__context__, "response", None))):
                one.text = json.dumps({"error": {"message": f"Wrong key: {secret} today"}})
            having(error, error=f"Wrong key: {secret} today")
            with self.subTest(service=service.__name__):
                self.assertEqual(str(classify(error)), "HTTP 401: Wrong key: [hidden] today")

    def test_a_key_is_taken_out_of_all_that_an_error_says(self):
        response = Response(401, f"Wrong key: {KEY}")
        for error in (
            MistralError(f"Status 401. Body: Wrong key: {KEY}", response),
            ReplicateError(401, "Wrong key", f"Wrong key: {KEY}"),
            library("OpenAIError")(f"Wrong key: {KEY}"),
        ):
            with self.subTest(error=type(error).__name__):
                self.assertIn(KEY, str(error))
                redact_error(error, KEY)
                self.assertIn("[hidden]", str(error))
                self.assertNotIn(KEY, str(error) + str(vars(error)))


class MistralUnread(MistralError):
    """As `ResponseValidationError`, whose status says that all is well."""


MistralUnread.__name__ = "ResponseValidationError"
