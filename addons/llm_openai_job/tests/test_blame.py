"""Whose fault an error is, as the service on loopback tells it and the client that is there."""

from odoo import fields

from odoo.addons.llm_generate_job.tests import fake_http

from .test_contract import ContractCommon


def told(status, words, code=None, **headers):
    return fake_http.refusal(status, {"error": {"message": words, "code": code}}, **headers)


class TestChatBlame(ContractCommon):
    """One fault, one job: its state, whether the queue and its model pause, and the calls."""

    def setUp(self):
        super().setUp()
        self.remote.reset()
        self.other_queue = self.env["llm.generation.queue"]._get_or_create_queue(self.provider)

    def _meet(self, fault):
        """Have a job meet a fault; return how many calls that made."""
        self.remote.fault(fault)
        before = self.remote.count("POST")
        self.job = self._create_job("queued", model=self.model)
        self._process_queue(self.provider)
        return self.remote.count("POST") - before

    def _assert_pauses(self, *expected):
        """Compare the seconds for which the queue waits, and its model."""
        pause = self.env["llm.generation.model.pause"].search([("model_id", "=", self.model.id)])
        for until, seconds in zip(
            (self.other_queue.paused_until, pause.paused_until), expected, strict=True
        ):
            left = (until - fields.Datetime.now()).total_seconds() if until else 0
            self.assertAlmostEqual(left, seconds, delta=20 if seconds else 0)

    def test_each_fault_has_the_consequence_of_its_scope(self):
        too_large = "Request too large for m on tokens per min: Limit 30000, Requested 36278."
        limited = "Rate limit reached for m in organization o on tokens per min."
        table = [
            (told(403, "Input was flagged"), "failed", "content_refused", 0, 0),
            (told(429, too_large), "failed", "bad_request", 0, 0),
            (
                told(402, "fewer max_tokens, can only afford 5"),
                "failed",
                "bad_request",
                0,
                0,
            ),
            (told(401, "No.", "key_model_access_denied"), "queued", "authentication", 0, 900),
            (told(403, "No.", "key_model_access_denied"), "queued", "authentication", 0, 900),
            (told(429, limited, Retry_After="60"), "queued", "rate_limited", 0, 60),
            (told(429, "Slowly.", Retry_After="60"), "queued", "rate_limited", 60, 0),
            (told(429, "Slowly.", Retry_After="86400000"), "queued", "rate_limited", 3600, 0),
            (told(400, "No.", "budget_exceeded"), "queued", "quota", 900, 0),
            (told(400, "Your credit balance is too low"), "queued", "quota", 900, 0),
            (told(502, "Bad gateway"), "queued", "transient", 0, 0),
            (told(503, "Unavailable"), "queued", "overloaded", 0, 0),
            (fake_http.reset, "queued", "unknown_outcome", 0, 0),
            (told(500, "Oops"), "failed", "transient", 0, 0),
            (fake_http.bodiless, "failed", "unknown_outcome", 0, 0),
        ]
        for fault, state, error_type, queue, model in table:
            self.other_queue.write({"paused_until": False, "refused_by": False})
            self.env["llm.generation.model.pause"].search([]).unlink()
            self.assertEqual(self._meet(fault), 1)
            with self.subTest(told=self.job.error_message):
                self.assertEqual((self.job.state, self.job.error_type), (state, error_type))
                self._assert_pauses(queue, model)
                self.assertEqual(self.job.retry_count, 0)
                if state == "queued":
                    self.job.action_cancel()

    def test_who_does_not_listen_is_asked_again_soon(self):
        self.provider.api_base = "http://127.0.0.1:9/v1"
        self._meet(None)
        self.assertEqual((self.job.state, self.job.error_type), ("queued", "transient"))
        wait = (self.job.scheduled_at - fields.Datetime.now()).total_seconds()
        self.assertLess(wait, 3)

    def test_a_chat_that_meets_faults_is_answered(self):
        for fault in (told(500, "Oops"), told(502, "Bad gateway"), fake_http.reset):
            with self.subTest(fault=fault):
                calls = self._meet(fault)
                self.job.write({"scheduled_at": False, "is_scheduled": False})
                if self.job.retry_at:
                    self.assertLess(self.job._seconds_to_retry(), 6)
                    self.job.retry_at = self.job.queued_at
                    self._engine()._retry_due()
                self._process_queue(self.provider)
                self.assertEqual((self.job.state, calls), ("completed", 1))
