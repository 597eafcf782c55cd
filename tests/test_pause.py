import contextlib
import errno
from datetime import timedelta
from unittest.mock import patch

from odoo import fields
from odoo.tests import BaseCase, tagged

from ..exceptions import RateLimitedError
from ..protocol.answer import Claim
from ..protocol.backoff import DISK_FULL_DELAY
from ..runner.executor import Execution, Running
from ..runner.messages import EVERYTHING, Cancelled, Due, Lost, Queued, SlotFree
from .common import LlmGenerationCommon, posted

LIMIT = 3


@tagged("post_install", "-at_install")
class TestCalls(BaseCase):
    def test_what_was_cancelled_elsewhere_is_hung_up_on_and_nothing_else(self):
        calls = Running()
        for number in (7, 8):
            calls.add(Claim(number, number))
        for message in (Cancelled([8, 9]), EVERYTHING, SlotFree([7]), Queued([7]), Due(), Lost()):
            calls.hear(message)
        self.assertEqual((calls[7].cancelled, calls[8].cancelled), (False, True))


class TestPause(LlmGenerationCommon):
    """A provider asks for a pause while other jobs are on their way to it."""

    def setUp(self):
        super().setUp()
        self.queue.max_concurrent_jobs = LIMIT

    def _claimed(self, count=1):
        jobs = self.env["llm.generation.job"].concat(
            *(self._create_job("queued") for _number in range(count))
        )
        claims, _waits = self._engine()._claim(count, queue_ids=self.queue.ids)
        return jobs, claims

    def _call(self, claim, call=None):
        [job_context] = self._engine()._prefetch([claim])
        self._engine()._run(job_context, execution=call or Execution(claim))

    def _left(self):
        return (self.queue.paused_until - fields.Datetime.now()).total_seconds()

    def test_what_was_claimed_before_is_refused_once_each_and_nothing_starts_in_the_pause(self):
        jobs, claims = self._claimed(2 * LIMIT)
        self.assertEqual(len(claims), LIMIT)
        self.service.answers["create"] = [RateLimitedError("Slowly.", retry_after=20)]

        for claim in claims:
            self._call(claim)
            self.assertFalse(self._claim_all())

        self.assertEqual(len(self.service.calls["create"]), LIMIT)
        self.assertEqual(set(jobs.mapped("state")), {"queued"})
        self.assertFalse(any(jobs.mapped("retry_count")))
        self.assertAlmostEqual(self._left(), 20, delta=2)

        self.queue.paused_until = fields.Datetime.now() - timedelta(seconds=1)
        self.service.answers["create"] = ["ext-1"]
        self.assertEqual(len(self._claim_all()), LIMIT)

    def _claim_all(self):
        return self._engine()._claim(2 * LIMIT, queue_ids=self.queue.ids)[0]

    def test_a_longer_pause_is_never_shortened(self):
        _jobs, claims = self._claimed(2)
        for claim, seconds in zip(claims, (20, 5), strict=True):
            self.service.answers["create"] = [RateLimitedError("Slowly.", retry_after=seconds)]
            self._call(claim)
        self.assertAlmostEqual(self._left(), 20, delta=2)

    def test_the_headers_of_a_good_answer_may_ask_for_a_pause_of_its_model_too(self):
        job, [claim] = self._claimed()
        call = Execution(claim)
        call.pause = 20.0
        self.service.answers["create"] = [{"state": "completed"}]
        with self._woken() as woken:
            self._call(claim, call)
        self.assertEqual(job.state, "completed")
        # The end of the pause is due by time: each runner has to know.
        self.assertIn(Due(), woken)
        self.assertFalse(self.queue.paused_until)
        self._create_job("queued")
        self.assertAlmostEqual(self._engine()._next_due(), 20, delta=2)
        self.assertFalse(self._claim_all())
        other_model = self.native_model.copy({"name": "Other"})
        self._create_job("queued", model=other_model)
        self.assertEqual(len(self._claim_all()), 1)

    @contextlib.contextmanager
    def _woken(self):
        """Give the list of what the runners are told meanwhile."""
        engine = type(self._engine())
        with patch.object(engine, "_wake", autospec=True, side_effect=engine._wake) as wake:
            messages = []
            yield messages
        messages += [call.args[1] for call in wake.call_args_list if len(call.args) > 1]

    def test_no_other_answer_is_paid_for_while_there_is_no_room_for_one(self):
        job, [claim] = self._claimed()
        self.service.answers["create"] = [OSError(errno.ENOSPC, "No space left on device")]

        self._call(claim)

        self.assertRecordValues(job, [{"state": "failed", "error_type": "unknown_outcome"}])
        self.assertIn("Free some space", job.error_message)
        self.assertTrue(job.retry_at)
        self.assertAlmostEqual(self._left(), DISK_FULL_DELAY, delta=2)
        self._create_job("queued")
        self.assertFalse(self._claim_all())

    def test_who_ends_the_pause_has_the_queue_looked_at(self):
        self.queue.paused_until = fields.Datetime.now() + timedelta(seconds=20)
        with self._woken() as woken:
            self.queue.action_process_queue()
        self.assertFalse(self.queue.paused_until)
        self.assertIn(Queued(self.queue.ids), woken)

    def test_questions_about_running_jobs_go_on(self):
        self._create_job("queued")
        self._process_queue()
        self.service.answers["check"] = [posted("Hi")]
        self.queue.paused_until = fields.Datetime.now() + timedelta(seconds=20)

        self.assertEqual(self.env["llm.generation.queue"]._check_job_statuses(), 1)

        self.assertEqual(len(self.service.calls["check"]), 1)
