import json

from odoo.tests import BaseCase, tagged

from ..protocol.answer import Answer
from ..protocol.sanitize import can_be_stored, sanitize_json, sanitize_text
from ..protocol.signatures import _job_of
from .nasty import TEXTS, VALUES

ANSWER_KEYS = (
    "progress", "usage", "provider_data", "error_message", "error_type", "retry_after",
    "poll_after", "expires_in", "output_message_id", "more",
)  # fmt: skip


@tagged("post_install", "-at_install")
class TestUntrusted(BaseCase):
    def test_any_value_at_any_place_of_an_answer_is_understood(self):
        for name, value in {**VALUES, **TEXTS}.items():
            for key in ANSWER_KEYS:
                with self.subTest(name, key=key):
                    answer = Answer.from_dict({"state": "running", key: value})
                    self.assertEqual(answer.state, "running")
                    json.dumps([answer.provider_data, answer.progress, answer.error_message])
                    self.assertLess(answer.tokens("prompt"), 2**31)

    def test_any_value_becomes_json(self):
        for name, value in {**VALUES, **TEXTS}.items():
            if name in {"bytes", "object", "set"}:
                continue
            with self.subTest(name):
                text = json.dumps(sanitize_json(value), allow_nan=False)
                self.assertNotIn("\\u0000", text)
                self.assertTrue(can_be_stored(json.loads(text)))

    def test_what_can_be_kept_is_kept_as_it_is(self):
        value = {"a": [1, 2.5, True, None, "Grüße\n\t𝄞", {"b": {}}], "c": -(10**30)}
        self.assertEqual(sanitize_json(value), value)
        self.assertTrue(can_be_stored(value))

    def test_what_cannot_be_kept_is_recognised(self):
        names = ("deep list", "deep dict", "not a number", "huge number", "nul", "surrogates")
        for name in names:
            with self.subTest(name):
                self.assertFalse(can_be_stored(VALUES[name]))

    def test_languages_that_run_from_right_to_left_stay_whole(self):
        text = "שלום\u200f, مرحبا\u200e!"
        self.assertEqual(sanitize_text(text, one_way=True), text)

    def test_a_body_of_a_webhook_is_read_whatever_it_is(self):
        bodies = [b"[" * 100_000, b'{"data": ' * 5000, b"\xff\xfe", b"\x00", b"NaN", b'"a"', b""]
        for body in bodies:
            with self.subTest(body[:9]):
                self.assertIsNone(_job_of(body))
