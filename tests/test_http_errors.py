import errno
import json
from email.utils import formatdate

import requests
from urllib3.exceptions import MaxRetryError, NewConnectionError, ProtocolError, SSLError

from odoo.tests import BaseCase, tagged

from .. import exceptions
from ..protocol.http_errors import classify, from_response, parse_duration, redact, retry_after

NOW = 1_750_000_000.0

#: What an HTTP status means by itself.
MEANINGS = {
    400: exceptions.BadRequestError,
    401: exceptions.AuthenticationError,
    402: exceptions.QuotaExceededError,
    403: exceptions.AuthenticationError,
    404: exceptions.BadRequestError,
    408: exceptions.TransientError,
    409: exceptions.TransientError,
    413: exceptions.BadRequestError,
    422: exceptions.BadRequestError,
    429: exceptions.RateLimitedError,
    500: exceptions.TransientError,
    502: exceptions.TransientError,
    503: exceptions.OverloadedError,
    504: exceptions.TransientError,
    529: exceptions.OverloadedError,
}

#: What services say, by whose fault it is: status, code, sentence, meaning.
WORDS = {
    "request": [
        (
            400,
            "invalid_value",
            "Invalid value: 'invalid api key'. Supported values are: 'low' and 'high'.",
            exceptions.BadRequestError,
        ),
        (400, None, "Invalid value: 'it's invalid api key 'x'.", exceptions.BadRequestError),
        (400, None, "Invalid: 'credit balance is too low'.", exceptions.BadRequestError),
        (
            400,
            None,
            """Invalid: '{"message": "credit balance is too low"}'.""",
            exceptions.BadRequestError,
        ),
        (422, None, "Invalid: 'insufficient funds'.", exceptions.BadRequestError),
        (403, None, "Input was flagged", exceptions.ContentRefusedError),
        (403, None, "Content violates usage guidelines.", exceptions.ContentRefusedError),
        (
            429,
            "rate_limit_exceeded",
            (
                "Request too large for gpt-4o in organization org-x on tokens per min (TPM):"
                " Limit 30000, Requested 36278. The input or output tokens must be reduced."
            ),
            exceptions.BadRequestError,
        ),
        (429, None, "TPM: limit: 6,000, requested: 8,274", exceptions.BadRequestError),
        (
            402,
            None,
            (
                "This request requires more credits, or fewer max_tokens. You requested up to 16384"
                " tokens, but can only afford 3919."
            ),
            exceptions.BadRequestError,
        ),
        (402, None, "Prompt tokens limit exceeded: 230799 > 91442.", exceptions.BadRequestError),
    ],
    "model": [
        (401, "key_model_access_denied", "Not allowed.", exceptions.AuthenticationError),
        (403, "team_model_access_denied", "Not allowed.", exceptions.AuthenticationError),
        (403, None, "Project p does not have access to model `x`", exceptions.AuthenticationError),
        (
            429,
            "rate_limit_exceeded",
            (
                "Rate limit reached for gpt-4o in organization org-x on tokens per min (TPM): Limit"
                " 30000, Used 14567, Requested 24754. Please try again in 18.642s."
            ),
            exceptions.RateLimitedError,
        ),
        (
            429,
            None,
            (
                "You exceeded your current quota, please check your plan and billing details."
                " Quota exceeded for metric: requests, model: gemini. Please retry in 20.04s."
            ),
            exceptions.RateLimitedError,
        ),
        (429, "budget_exceeded", "exceeded budget for model=x", exceptions.QuotaExceededError),
    ],
    "account": [
        (400, "budget_exceeded", "No.", exceptions.QuotaExceededError),
        (
            400,
            "400",
            (
                "Budget has been exceeded! Current cost: 14.1, Max budget: 10."
                " Received Model Group=x\nAvailable Model Group Fallbacks=None"
            ),
            exceptions.QuotaExceededError,
        ),
        (400, None, "Your credit balance is too low.", exceptions.QuotaExceededError),
        (
            400,
            None,
            (
                "litellm.BadRequestError: AnthropicException - "
                '{"type":"error","error":{"type":"x","message":"Your credit balance is too low"}}'
            ),
            exceptions.QuotaExceededError,
        ),
        (
            400,
            None,
            "Error code: 400 - {'error': {'message': 'Your credit balance is too low to use'}}",
            exceptions.QuotaExceededError,
        ),
        (400, "Arrearage", "Access denied.", exceptions.QuotaExceededError),
        (
            400,
            "invalid_request_error",
            "You have reached your specified API usage limits. You will regain access on 1 May.",
            exceptions.QuotaExceededError,
        ),
        (
            429,
            None,
            "Your team has used all available credits or reached its monthly spending limit.",
            exceptions.QuotaExceededError,
        ),
        (
            400,
            "INVALID_ARGUMENT",
            "API key not valid. Please pass a valid API key.",
            exceptions.AuthenticationError,
        ),
        (400, None, "Incorrect API key provided: xa***12.", exceptions.AuthenticationError),
        (400, None, "This organization has been disabled.", exceptions.AuthenticationError),
        (
            400,
            "400",
            '{\n "error": {"code": 400, "message": "API key not valid. Please pass one."}}',
            exceptions.AuthenticationError,
        ),
        (403, None, "Key limit exceeded (monthly limit).", exceptions.QuotaExceededError),
        (402, None, "fewer max_tokens, but can only afford 0.", exceptions.QuotaExceededError),
        (401, "invalid_api_key", "Incorrect API key provided.", exceptions.AuthenticationError),
        (403, None, "Missing scopes: model.request", exceptions.AuthenticationError),
        (
            403,
            None,
            "Your account was disabled for violating our usage policy.",
            exceptions.AuthenticationError,
        ),
        (429, None, "Rate limit reached for requests", exceptions.RateLimitedError),
        (
            429,
            None,
            (
                "Rate limit reached for organization org-x on tokens per min (TPM): Limit 250000,"
                " Used 250000, Requested 22700."
            ),
            exceptions.RateLimitedError,
        ),
    ],
    "service": [
        (500, "server_error", "The model had an error.", exceptions.TransientError),
        (502, None, "Bad gateway", exceptions.TransientError),
        (503, None, "The model is overloaded.", exceptions.OverloadedError),
    ],
}


def response(status, body=None, headers=None):
    answer = requests.Response()
    answer.status_code = status
    answer.reason = "Reason"
    answer.headers.update(headers or {})
    answer._content = (body if isinstance(body, str) else json.dumps(body or {})).encode()
    return answer


@tagged("post_install", "-at_install")
class TestHttpErrors(BaseCase):
    def test_a_redirect_says_where_it_points(self):
        for location, told in (
            ("https://user:pw@api.example.com/v2?key=secret#x", "https://api.example.com/v2"),
            ("/v2", "/v2"),
            ("http://[odd", "nowhere"),
            ("", "nowhere"),
        ):
            with self.subTest(location):
                response = requests.Response()
                response.status_code = 308
                response._content = b"<h1>Moved</h1>"
                response.headers["location"] = location
                known = classify(requests.HTTPError("308 for url: x", response=response))
                self.assertIsInstance(known, exceptions.BadRequestError)
                self.assertIn(f"HTTP 308: the server points to {told}: correct", str(known))

    def test_each_status_has_its_meaning(self):
        for status, error_class in MEANINGS.items():
            with self.subTest(status=status):
                self.assertIs(type(from_response(response(status))), error_class)

    def test_a_code_says_more_than_its_status(self):
        table = [
            (429, "insufficient_quota", exceptions.QuotaExceededError),
            (400, "billing_hard_limit_reached", exceptions.QuotaExceededError),
            (400, "context_length_exceeded", exceptions.ContentRefusedError),
            (400, "content_policy_violation", exceptions.ContentRefusedError),
            (400, "exceed_context_size_error", exceptions.ContentRefusedError),
            (429, "rate_limit_exceeded", exceptions.RateLimitedError),
        ]
        for status, code, error_class in table:
            shapes = ({"code": code}, {"code": None, "type": code}, {"code": status, "type": code})
            for error in shapes:
                with self.subTest(status=status, error=error):
                    answer = response(status, {"error": error})
                    self.assertIs(type(from_response(answer)), error_class)

    def test_the_words_of_services_tell_whose_fault_it_is(self):
        for scope, table in WORDS.items():
            for status, code, words, error_class in table:
                with self.subTest(status=status, words=words):
                    body = {"error": {"message": words, "type": "some_error", "code": code}}
                    error = from_response(response(status, body))
                    self.assertEqual((type(error), error.scope), (error_class, scope))

    def test_a_gateway_tells_what_the_service_behind_it_said(self):
        metadata = {"raw": "some/model:free is temporarily rate-limited upstream."}
        body = {"error": {"message": "Provider returned error", "metadata": metadata}}
        self.assertIn("some/model:free is", str(from_response(response(429, body))))
        metadata["raw"] = '{"input": "the prompt of somebody"}'
        self.assertNotIn("prompt", str(from_response(response(429, body))))

    def test_a_broken_connection_is_told_without_addresses_and_classes(self):
        request = requests.Request("POST", "https://me:pass@api.example:8443/v1/chat?key=x")
        refused = MaxRetryError(None, "/v1", NewConnectionError(None, "Connection refused"))
        cut = ProtocolError("Connection aborted.", ConnectionResetError(104, "reset"))
        plain = MaxRetryError(None, "/v1", SSLError("[SSL: WRONG_VERSION_NUMBER] wrong version"))
        for error, words in (
            (requests.ConnectionError(refused), "cannot be reached."),
            (requests.exceptions.SSLError(plain), "does not speak HTTPS"),
            (requests.ConnectTimeout(refused), "cannot be reached."),
            (requests.ConnectTimeout(MaxRetryError(None, "/v1")), "did not accept the connection"),
            (requests.ReadTimeout(TimeoutError("HTTPSConnectionPool")), "did not answer in time."),
            (requests.ConnectionError(cut), "hung up before it answered."),
            (requests.exceptions.ChunkedEncodingError(cut), "hung up before it answered."),
            (requests.exceptions.ChunkedEncodingError(ProtocolError("IncompleteRead(0)")), "broke"),
        ):
            with self.subTest(error=error):
                self.assertIn(f"The service {words}", str(classify(error)))
                error.request = request
                self.assertIn(f"api.example:8443 {words}", str(classify(error)))
        for error, words in (
            (requests.exceptions.ProxyError(refused), "The proxy on the way to The service"),
            (
                requests.exceptions.SSLError(SSLError("CERTIFICATE_VERIFY_FAILED")),
                "The certificate of The service is not accepted.",
            ),
        ):
            self.assertIn(words, str(classify(error)))
        own = requests.ReadTimeout("api.example did not end its answer in time.")
        self.assertEqual(str(classify(own)), str(own))

    def test_only_what_was_certainly_not_done_cost_nothing(self):
        for status in MEANINGS:
            with self.subTest(status=status):
                self.assertEqual(from_response(response(status)).unbilled, status == 502)
        cut = "('Connection aborted.', RemoteDisconnected('closed without response'))"
        for error, unbilled in (
            (requests.ConnectionError(NewConnectionError(None, "refused")), True),
            (requests.ConnectTimeout(), True),
            (ConnectionRefusedError("refused"), True),
            (requests.ConnectionError(cut), True),
            (ConnectionResetError("reset"), True),
            (requests.ConnectionError("reset by peer"), False),
            (requests.exceptions.ChunkedEncodingError(), False),
            (requests.ReadTimeout(), False),
            (TimeoutError("timed out"), False),
        ):
            with self.subTest(error=error):
                self.assertEqual(classify(error).unbilled, unbilled)

    def test_waits_are_told_in_sentences_too(self):
        for words, seconds in (
            ("Please try again in 1m26.4s. Visit us.", 86.4),
            ("Please try again in 644ms.", 0.644),
            ("Please retry in 20.5s.", 20.5),
            ("Try again in a while.", None),
        ):
            with self.subTest(words=words):
                error = from_response(response(429, {"error": {"message": words}}))
                self.assertEqual(error.retry_after, seconds)

    def test_retry_after_comes_in_many_shapes(self):
        table = [
            ({"Retry-After": "30"}, 30.0),
            ({"retry-after": "86400"}, 86400.0),
            ({"Retry-After": formatdate(NOW + 90, usegmt=True)}, 90.0),
            ({"Retry-After": formatdate(NOW - 90, usegmt=True)}, None),
            ({"Retry-After": "soon"}, None),
            ({"retry-after-ms": "1500", "Retry-After": "30"}, 1.5),
            ({"retry-after-ms": "-1", "Retry-After": "30"}, 30.0),
            ({}, None),
            (None, None),
        ]
        for headers, seconds in table:
            with self.subTest(headers=headers):
                self.assertEqual(retry_after(headers, NOW), seconds)

    def test_the_reset_of_what_is_used_up_counts(self):
        headers = {
            "x-ratelimit-remaining-requests": "0",
            "x-ratelimit-reset-requests": "6m0s",
            "x-ratelimit-remaining-tokens": "500",
            "x-ratelimit-reset-tokens": "1h",
        }
        self.assertEqual(retry_after(headers), 360.0)

    def test_resets_of_azure_that_tell_nothing_are_ignored(self):
        for reset in ("-1", "0"):
            with self.subTest(reset=reset):
                headers = {
                    "x-ratelimit-remaining-requests": "0",
                    "x-ratelimit-reset-requests": reset,
                }
                self.assertIsNone(retry_after(headers))

    def test_replicate_tells_the_wait_in_its_sentence(self):
        body = {"detail": "Request was throttled. Your rate limit resets in ~30s."}
        error = from_response(response(429, body))
        self.assertIs(type(error), exceptions.RateLimitedError)
        self.assertEqual(error.retry_after, 30.0)

    def test_durations_are_numbers_or_those_of_go(self):
        table = {"1s": 1.0, "6m0s": 360.0, "1h2m3.5s": 3723.5, "12ms": 0.012, "7": 7.0, "": None}
        for text, seconds in table.items():
            with self.subTest(text=text):
                self.assertEqual(parse_duration(text), seconds)

    def test_an_error_says_what_the_provider_said_but_no_key(self):
        key = "sk-proj-abcdefgh12345678"
        for body in (
            {"error": {"message": f"Incorrect API key provided: {key}."}},
            {"detail": f"Incorrect API key provided: {key}."},
            f"Incorrect API key provided: {key}.",
        ):
            with self.subTest(body=body):
                error = from_response(response(401, body))
                self.assertIn("Incorrect API key", str(error))
                self.assertNotIn(key, str(error))

    def test_what_requests_raises_says_what_the_provider_said_and_no_address(self):
        answer = response(422, {"detail": "No such voice."})
        answer.url = "https://example.com/tok-123/speak"
        with self.assertRaises(requests.HTTPError) as raised:
            answer.raise_for_status()

        self.assertEqual(str(classify(raised.exception)), "HTTP 422: No such voice.")

        spent = requests.Response()
        spent.status_code, spent.reason, spent._content_consumed = 500, "Broken", True
        error = classify(requests.HTTPError("500 for url: /tok-123", response=spent))
        self.assertEqual((type(error), str(error)), (exceptions.TransientError, "HTTP 500: Broken"))

    def test_credentials_of_all_kinds_are_scrubbed(self):
        for secret in (
            "sk-abcdef123456",
            "r8_abcdef123456",
            "Bearer eyJhbGciOi.abc-def",
            "https://example.com/v1?key=abcdef123456",
        ):
            with self.subTest(secret=secret):
                redacted = redact(f"Refused {secret} today")
                self.assertIn("[hidden]", redacted)
                self.assertNotIn("abc", redacted)

    def test_what_postgresql_cannot_store_is_left_out(self):
        self.assertEqual(redact("a\x00b"), "ab")

    def test_exceptions_of_requests_say_whether_work_may_have_been_done(self):
        refused = NewConnectionError(None, "Connection refused")
        not_connected = requests.ConnectionError(MaxRetryError(None, "/", refused))
        table = [
            (requests.ConnectTimeout(), exceptions.TransientError),
            (requests.exceptions.SSLError("certificate verify"), exceptions.TransientError),
            (requests.exceptions.SSLError("bad record mac"), exceptions.UnknownOutcomeError),
            (not_connected, exceptions.TransientError),
            (requests.ReadTimeout(), exceptions.UnknownOutcomeError),
            (requests.ConnectionError("reset by peer"), exceptions.UnknownOutcomeError),
            (requests.exceptions.ChunkedEncodingError(), exceptions.UnknownOutcomeError),
            (requests.exceptions.InvalidURL(), exceptions.BadRequestError),
            (requests.HTTPError(response=response(503)), exceptions.OverloadedError),
            (ConnectionRefusedError("refused"), exceptions.TransientError),
            (ConnectionResetError("reset"), exceptions.UnknownOutcomeError),
            (TimeoutError("timed out"), exceptions.UnknownOutcomeError),
            (OSError(errno.ENOSPC, "No space left"), exceptions.DiskFullError),
            (OSError(errno.EDQUOT, "Quota exceeded"), exceptions.DiskFullError),
        ]
        for error, error_class in table:
            with self.subTest(error=error):
                self.assertIs(type(classify(error)), error_class)

    def test_exceptions_of_a_providers_own_library_are_judged_by_their_cause(self):
        class StatusError(Exception):
            response = response(429, {"error": {"code": "slow_down"}}, {"Retry-After": "9"})

        class LibraryError(Exception):
            pass

        error = classify(StatusError("Slow down"))
        self.assertEqual((type(error), error.retry_after), (exceptions.RateLimitedError, 9.0))
        for cause, error_class in (
            (ConnectionRefusedError("refused"), exceptions.TransientError),
            (TimeoutError("timed out"), exceptions.UnknownOutcomeError),
        ):
            with self.subTest(cause=cause):
                wrapped = LibraryError("Connection error.")
                wrapped.__cause__ = LibraryError("inner")
                wrapped.__cause__.__cause__ = cause
                self.assertIs(type(classify(wrapped)), error_class)

    def test_exceptions_of_others_are_not_judged(self):
        self.assertIsNone(classify(ValueError("boom")))
        quota = exceptions.QuotaExceededError("Pay first.")
        self.assertIs(classify(quota), quota)

    def test_waits_without_an_end_or_a_date_that_is_none_tell_nothing(self):
        for headers in (
            {"retry-after-ms": "inf"},
            {"Retry-After": "nan"},
            {"Retry-After": "Mon, 01 Jan 0001 00:00:00 GMT"},
            {"Retry-After": "9" * 400 + "s"},
        ):
            with self.subTest(headers):
                self.assertIsNone(retry_after(headers))
        for wait in ("nan", "9" * 400 + "s"):
            error = from_response(response(429, {"detail": f"It resets in {wait}"}))
            self.assertIsNone(error.retry_after)
