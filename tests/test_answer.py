import json
import math

from odoo.tests import BaseCase, tagged

from .. import exceptions
from ..protocol.answer import PROVIDER_STATES, Answer


@tagged("post_install", "-at_install")
class TestAnswer(BaseCase):
    def test_each_state_of_the_protocol_is_understood(self):
        for state in PROVIDER_STATES:
            with self.subTest(state=state):
                self.assertEqual(Answer.from_dict({"state": state}).state, state)

    def test_an_unknown_state_is_the_providers_failure(self):
        for values in ({"state": "starting"}, {"state": ["done"]}, {}, None, "completed", 7):
            with self.subTest(values=values), self.assertRaises(exceptions.ProviderFailedError):
                Answer.from_dict(values)

    def test_values_of_the_wrong_kind_are_ignored(self):
        answer = Answer.from_dict({
            "state": "running",
            "progress": "half",
            "poll_after": float("nan"),
            "expires_in": True,
            "usage": ["many"],
            "output_message_id": "the last one",
            "provider_data": "none",
        })
        self.assertEqual(answer, Answer("running"))
        self.assertEqual(answer.tokens("prompt"), 0)

    def test_data_that_json_cannot_hold_is_left_out(self):
        for data in ({"x": float("nan")}, {"x": b"bytes"}, {"x": {1, 2}}, {"x": "a\x00b"}):
            with self.subTest(data=data):
                kept = Answer.from_dict({"state": "running", "provider_data": data}).provider_data
                self.assertNotIn("\\u0000", json.dumps(kept, allow_nan=False))

    def test_an_error_type_that_nobody_knows_is_a_failure_of_the_provider(self):
        answer = Answer.from_dict({"state": "failed", "error_type": "gremlins"})
        self.assertEqual(answer.error_type, "provider_failed")

    def test_an_error_type_that_is_known_is_kept(self):
        answer = Answer.from_dict({"state": "failed", "error_type": "quota", "retry_after": 5})
        self.assertEqual((answer.error_type, answer.retry_after), ("quota", 5))

    def test_numbers_are_kept_within_their_bounds(self):
        values = {"state": "running", "progress": 250, "poll_after": 10**9, "expires_in": 1e300}
        answer = Answer.from_dict(values)
        self.assertEqual((answer.progress, answer.poll_after), (100, 3600))
        self.assertLess(answer.expires_in, 10**9)

    def test_a_wait_without_end_is_no_wait(self):
        for seconds in ("60", None, math.inf, math.nan, -5.0, 1e300):
            with self.subTest(seconds=seconds):
                error = exceptions.RateLimitedError("Slow down", retry_after=seconds)
                wait = Answer.from_error(error).retry_after
                self.assertTrue(wait is None or 0 <= wait < 10**9, wait)

    def test_a_long_wait_is_kept(self):
        error = exceptions.RateLimitedError("Come tomorrow", retry_after=86400.0)
        self.assertEqual(Answer.from_error(error).retry_after, 86400.0)

    def test_a_cancellation_is_no_failure(self):
        answer = Answer.from_error(exceptions.GenerationCancelledError("Stopped"))
        self.assertEqual(answer.state, "cancelled")

    def test_a_message_may_be_a_record_or_an_id(self):
        class Record:
            id = 7

        for message in (7, Record()):
            with self.subTest(message=message):
                values = {"state": "completed", "output_message_id": message}
                self.assertEqual(Answer.from_dict(values).output_message_id, 7)

    def test_errors_carry_no_credential(self):
        answer = Answer.from_dict({"state": "failed", "error_message": "bad sk-abcdef12345678"})
        self.assertEqual(answer.error_message, "bad [hidden]")

    def test_tokens_are_whole_and_not_negative(self):
        table = [(7, 7), (7.9, 7), (-3, 0), ("7", 0), (None, 0), (10**12, 2**31 - 1)]
        for used, counted in table:
            with self.subTest(used=used):
                answer = Answer("completed", usage={"prompt_tokens": used})
                self.assertEqual(answer.tokens("prompt"), counted)
