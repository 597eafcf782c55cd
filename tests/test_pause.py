import errno
from datetime import timedelta
from unittest.mock import patch

from odoo import fields
from odoo.tests import BaseCase, tagged

from ..exceptions import RateLimitedError
from ..runner.answer import Answer, Claim
from ..runner.backoff import DISK_FULL_DELAY
from ..runner.brief import Brief
from ..runner.call import Call, Calls
from ..runner.gate import LASTS, Gate
from .common import LlmGenerationCommon, posted


@tagged("post_install", "-at_install")
class TestGate(BaseCase):
    def setUp(self):
        super().setUp()
        self.now = 100.0
        self.gate = Gate(clock=lambda: self.now)

    def test_it_is_shut_until_the_news_has_travelled(self):
        self.assertEqual(self.gate.left, 0)
        self.gate.shut(20)
        self.assertEqual(self.gate.left, 20)
        self.now += LASTS / 2
        self.assertEqual(self.gate.left, 20 - LASTS / 2)
        self.now += LASTS / 2
        self.assertEqual(self.gate.left, 0)

    def test_a_short_pause_ends_earlier_and_shortens_no_longer_one(self):
        self.gate.shut(0.5)
        self.now += 0.6
        self.assertEqual(self.gate.left, 0)
        self.gate.shut(20)
        self.gate.shut(0.5)
        self.assertEqual(self.gate.left, 20)

    def test_what_is_heard_shuts_the_gate_of_its_provider_and_cancels_calls(self):
        calls = Calls()
        mine, other = (
            Brief(Claim(number, number), 1, {}, {("llm.provider", number): {}}) for number in (7, 8)
        )
        for brief in (mine, other):
            calls.add(brief.claim, brief.provider_id)

        for payload in ("pause:7:20.000", "cancel:8,9", "queued", "slot:7", "go:8"):
            calls.hear(payload)

        self.assertGreater(calls[7].gate.left, 19)
        self.assertEqual(calls[8].gate.left, 0)
        self.assertEqual((calls[7].cancelled, calls[8].cancelled), (False, True))
        calls.hear("go:7")
        self.assertEqual(calls[7].gate.left, 0)

    def test_only_who_is_limited_wants_a_pause(self):
        cases = [
            (Answer("failed", error_type="rate_limited", retry_after=7.0), 7),
            (Answer("failed", error_type="rate_limited"), 30),
            (Answer("failed", error_type="overloaded", retry_after=7.0), 0),
            (Answer("completed", pause=3.0), 3),
            (Answer("completed"), 0),
        ]
        for answer, seconds in cases:
            with self.subTest(answer):
                self.assertEqual(answer.wished_pause, seconds)


class TestPause(LlmGenerationCommon):
    """A provider asks for a pause while other jobs are on their way to it."""

    def _claimed(self):
        job = self._create_job("queued")
        return job, self._claim(job)

    def _brief(self, claim):
        return self._engine("preparation")._prepare([claim])[0]

    def _call(self, claim, brief, gate=None, method="_run"):
        call = Call(claim, gate)
        getattr(self._engine("call").with_context(generation_call=call), method)(brief)
        return call

    def _assert_waits(self, job):
        self.assertRecordValues(
            job, [{"state": "queued", "error_type": "rate_limited", "retry_count": 0}]
        )
        self.assertFalse(self.service.calls["create"])

    def test_a_job_that_was_claimed_before_is_given_back(self):
        job, claim = self._claimed()
        gate = Gate()
        gate.shut(20)

        self._call(claim, self._brief(claim), gate)

        self._assert_waits(job)
        left = (self.queue.paused_until - fields.Datetime.now()).total_seconds()
        self.assertAlmostEqual(left, 20, delta=2)

    def test_no_other_answer_is_paid_for_while_there_is_no_room_for_one(self):
        job, claim = self._claimed()
        self.service.answers["create"] = [OSError(errno.ENOSPC, "No space left on device")]
        gate = Gate()

        self._call(claim, self._brief(claim), gate)

        self.assertRecordValues(job, [{"state": "failed", "error_type": "unknown_outcome"}])
        self.assertIn("Free some space", job.error_message)
        self.assertTrue(job.retry_at)
        left = (self.queue.paused_until - fields.Datetime.now()).total_seconds()
        self.assertAlmostEqual(left, DISK_FULL_DELAY, delta=2)
        self.assertTrue(gate.left)

    def test_who_is_held_back_here_does_not_keep_the_gate_shut(self):
        _job, claim = self._claimed()
        now = [100.0]
        gate = Gate(clock=lambda: now[0])
        gate.shut(20)
        now[0] += LASTS - 0.1

        self._call(claim, self._brief(claim), gate)

        self.assertTrue(gate.left)
        now[0] += 0.2
        self.assertEqual(gate.left, 0)

    def test_who_ends_the_pause_opens_the_gates(self):
        self.queue.paused_until = fields.Datetime.now() + timedelta(seconds=20)
        engine = type(self.env["llm.generation.engine"])
        with patch.object(engine, "_wake") as wake:
            self.queue.action_process_queue()
        self.assertIn(
            f"go:{self.queue.provider_id.id}", [call.args[0] for call in wake.call_args_list]
        )

    def test_who_is_refused_shuts_the_gate_at_once(self):
        self.service.answers["create"] = [RateLimitedError("Slowly.", retry_after=20)]
        _job, claim = self._claimed()

        call = self._call(claim, self._brief(claim))

        self.assertGreater(call.gate.left, 19)

    def test_questions_about_running_jobs_go_on(self):
        self._create_job("queued")
        self._process_queue()
        self.service.answers["check"] = [posted("Hi")]
        self.queue.paused_until = fields.Datetime.now() + timedelta(seconds=20)

        self.assertEqual(self.env["llm.generation.queue"]._check_job_statuses(), 1)

        self.assertEqual(len(self.service.calls["check"]), 1)
