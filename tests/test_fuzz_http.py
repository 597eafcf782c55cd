import math
from unittest.mock import Mock

import requests
from hypothesis import example, given, settings
from hypothesis import strategies as st

from odoo.tests import BaseCase, tagged

from .. import exceptions
from ..const import ERROR_TYPES
from ..protocol import backoff, http_errors
from ..protocol.answer import LONGEST_WAIT, Answer
from . import fuzzing

SETTINGS = settings(fuzzing.SETTINGS, max_examples=1000)
CODES = {code for code, _label in ERROR_TYPES}

waits = st.one_of(
    st.text(max_size=40),
    st.integers().map(str),
    st.floats().map(str),
    st.from_regex(r"(\d{1,30}(\.\d{1,5})?(ms|h|m|s)){1,3}", fullmatch=True),
    st.datetimes().map(lambda moment: moment.strftime("%a, %d %b %Y %H:%M:%S GMT")),
)
NAMES = (
    "Retry-After",
    "retry-after-ms",
    "X-RateLimit-Reset-Requests",
    "x-ratelimit-reset-tokens",
    "x-ratelimit-remaining-requests",
    "x-ratelimit-remaining-tokens",
)
headers = st.dictionaries(st.sampled_from(NAMES) | st.text(max_size=10), waits, max_size=6)
values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["error", "code", "type", "message", "detail"]) | st.text(max_size=5),
            inner,
            max_size=4,
        )
    ),
    max_leaves=8,
)
numbers = st.none() | st.floats() | st.integers()


def response(status, given_headers, body):
    """Return an answer as `requests` has it, without the checks that a server's code makes."""
    answer = requests.Response()
    answer.status_code = status
    answer.headers = given_headers
    answer._content = body
    return answer


@tagged("post_install", "-at_install")
class TestFuzzHttp(BaseCase):
    """Whatever a provider answers means something, and no wait is negative or without end."""

    def _check(self, error):
        self.assertIsInstance(error, exceptions.GenerationError)
        self.assertIn(error.error_type, CODES)
        if error.retry_after is not None:
            self.assertGreater(error.retry_after, 0)
            self.assertTrue(math.isfinite(error.retry_after))
        answer = Answer.from_error(error)
        self.assertIn(answer.error_type, CODES)
        self.assertNotIn("\x00", answer.error_message)

    @SETTINGS
    @given(st.integers(400, 999), headers, st.binary(max_size=200))
    @example(429, {"retry-after-ms": "inf"}, b"")
    @example(429, {"Retry-After": "nan"}, b"")
    @example(429, {"Retry-After": "Mon, 01 Jan 0001 00:00:00 GMT"}, b"")
    @example(500, {}, b"[" * 100_000)
    def test_any_answer_is_understood(self, status, given_headers, body):
        self._check(http_errors.from_response(response(status, given_headers, body)))

    @SETTINGS
    @given(st.integers(400, 599), values)
    @example(429, {"detail": "resets in nan"})
    @example(429, {"detail": "resets in " + "9" * 400 + "s"})
    def test_any_json_is_understood(self, status, body):
        answer = response(status, {}, b"")
        answer.json = Mock(return_value=body)
        self._check(http_errors.from_response(answer))
        error = requests.HTTPError("Refused", response=answer)
        self._check(http_errors.classify(error))

    @SETTINGS
    @given(st.floats(min_value=0.001, max_value=1e12, allow_nan=False))
    def test_a_wait_of_any_length_is_honoured(self, seconds):
        wait = http_errors.retry_after({"Retry-After": repr(seconds).lower()})
        self.assertEqual(wait, seconds)
        kinds = ("rate_limited", "overloaded", "transient", "busy")
        for kind in kinds:
            decision = backoff.decide(kind, max_retries=3, retry_after=wait)
            most = backoff.LONGEST_BUSY if kind == "busy" else seconds
            told = min(most, backoff.believable(seconds))
            self.assertGreaterEqual(max(decision.delay, decision.pause), told)
        answer = Answer.from_error(exceptions.RateLimitedError("Wait", retry_after=seconds))
        self.assertEqual(answer.retry_after, min(seconds, LONGEST_WAIT))

    @SETTINGS
    @given(
        st.sampled_from(sorted(CODES)) | st.text(max_size=10),
        st.integers(0, 10**6),
        st.integers(0, 10**6),
        st.integers(0, 10**6),
        numbers,
        st.floats(0, 1e9),
        st.booleans(),
        st.floats(0, 1, exclude_max=True),
    )
    @example("rate_limited", 0, 3, 0, float("nan"), 300.0, True, 0.5)
    @example("rate_limited", 0, 3, 0, -5, 300.0, True, 0.5)
    @example("transient", 0, 3, 0, float("inf"), 300.0, True, 0.5)
    def test_any_failure_has_a_decision(
        self, kind, retries, most, waits_before, wait, base, auto, chance
    ):
        decision = backoff.decide(
            kind,
            retry_count=retries,
            max_retries=most,
            snooze_count=waits_before,
            retry_after=wait,
            base_delay=base,
            auto_retry=auto,
            rng=lambda: chance,
        )
        self.assertIn(decision.action, {"snooze", "retry", "fail"})
        for seconds in (decision.delay, decision.pause):
            self.assertTrue(math.isfinite(seconds) and seconds >= 0, seconds)
        if decision.action == "retry":
            self.assertLess(retries, most)
            self.assertTrue(auto)
