import socket
from collections import Counter
from datetime import timedelta
from unittest.mock import patch

import psutil

from odoo import fields
from odoo.tools import mute_logger

from ..engine import sql
from ..engine.execute import OvertakenError
from ..engine.webhook import HINT_PAUSE
from ..exceptions import TransientError
from ..runner.executor import CallRecorder, Execution, received
from ..runner.limits import HEARTBEAT, TAKEN_ALONE
from .common import LlmGenerationCommon, posted


class TestHeldSlots(LlmGenerationCommon):
    """A slot is free when its call has ended, not when its job has."""

    def setUp(self):
        super().setUp()
        self.queue.max_concurrent_jobs = 1

    def _claimed(self, **values):
        """Return a job that a process calls the provider for, and its claim."""
        job = self._create_job("queued", **values)
        return job, self._claim(job)

    def _submitted(self):
        job = self._create_job("queued")
        self._process_queue()
        return job

    def _slots(self, model=None):
        """Return how many jobs could start now."""
        self._create_job("queued", thread_id=self._create_thread(model).id)
        with self.env.cr.savepoint() as savepoint:
            count = len(self._engine()._claim(9, queue_ids=self.queue.ids)[0])
            savepoint.rollback()
        self.env.invalidate_all(flush=False)
        return count

    def _held(self):
        return self.env["llm.generation.held.slot"].search([])

    def test_the_slot_of_a_job_that_is_given_up_is_free_when_its_call_has_ended(self):
        engine = self._engine()
        self.queue.auto_retry_failed = False

        def time_out(job, _claim):
            self.queue.job_timeout = 60
            job.started_at = fields.Datetime.now() - timedelta(seconds=61)
            engine._fail_overdue()

        ways = {
            "cancelled": lambda job, _claim: job.action_cancel(),
            "timed out": time_out,
            "given back": lambda _job, claim: engine._snooze_claims([claim]),
            "failed by code": lambda job, _claim: job.action_fail("Enough."),
        }
        for what, end in ways.items():
            with self.subTest(what=what):
                job, claim = self._claimed()
                end(job, claim)
                self.assertNotEqual(job.state, "running")
                self.assertEqual(self._slots(), 0)
                self.assertFalse(self._apply(claim, state="failed", error_type="transient"))
                self.assertEqual(self._slots(), 1)
                self.env["llm.generation.job"].search([("state", "=", "queued")]).action_cancel()

    def test_what_is_held_leaves_the_rest_of_the_slots(self):
        self.queue.max_concurrent_jobs = 4
        for _job in range(2):
            job, _claim = self._claimed()
            job.action_cancel()
        self._create_job("queued")
        self._create_job("queued")
        self.assertEqual(self._slots(), 2)

    def test_a_call_that_ends_its_job_holds_nothing(self):
        for answer in ({"state": "completed"}, {"state": "failed", "error_type": "bad_request"},
                       {"state": "failed", "error_type": "rate_limit", "retry_after": 1},
                       {"state": "cancelled"}):  # fmt: skip
            with self.subTest(answer=answer):
                _job, claim = self._claimed()
                self._apply(claim, **answer)
                self.assertFalse(self._held())
                self.env["llm.generation.job"].search([("state", "=", "queued")]).action_cancel()
                self.queue.paused_until = False
        job, _claim = self._claimed()
        job.action_complete()
        self.assertFalse(self._held())

    def test_a_slot_is_held_for_as_long_as_a_job_may_take_at_most(self):
        for timeout, seconds in ((1200, 1200), (5, 600), (0, 3600)):
            with self.subTest(timeout=timeout):
                self.queue.job_timeout = timeout
                job, _claim = self._claimed()
                job.action_cancel()
                held = self._held()
                wait = (held.until - fields.Datetime.now()).total_seconds()
                self.assertAlmostEqual(wait, seconds, delta=20)
                held.until = fields.Datetime.now() - timedelta(seconds=1)
                self.assertEqual(self._slots(), 1)
                self.assertFalse(self._engine()._held_at_providers(9))
                self.assertFalse(self._held())
                self.env["llm.generation.job"].search([("state", "=", "queued")]).action_cancel()

    def test_a_slot_is_held_though_its_job_is_deleted(self):
        job, _claim = self._claimed()
        job.action_cancel()
        job.unlink()
        self.assertEqual(self._slots(), 0)

    def test_the_limit_of_a_model_counts_what_is_held(self):
        self.queue.max_concurrent_jobs = 5
        self.env["llm.generation.model.limit"].create({
            "queue_id": self.queue.id, "model_id": self.native_model.id, "max_concurrent_jobs": 1
        })  # fmt: skip
        job, _claim = self._claimed()
        job.action_cancel()
        self.assertEqual(self._slots(), 0)
        self.assertEqual(self._slots(self.native_model.copy({"name": "Other"})), 1)

    def test_the_queue_says_why_nothing_starts(self):
        job, _claim = self._claimed()
        job.action_cancel()
        self._create_job("queued")
        self.assertEqual(self.queue.queue_health, "warning")
        self.assertIn("given up", self.queue.health_reason)

    def test_that_everything_fails_is_told_before_what_is_held(self):
        for _number in range(5):
            job, claim = self._claimed()
            self._apply(claim, state="failed", error_message="HTTP 500")
        job, _claim = self._claimed()
        job.action_cancel()
        self._create_job("queued")
        self.queue.invalidate_recordset()
        self.assertEqual(self.queue.queue_health, "critical")
        self.assertIn("failed", self.queue.health_reason)

    # === AT THE PROVIDER === #

    def test_what_a_provider_has_cancelled_is_free(self):
        self._submitted().action_cancel()
        self.assertFalse(self._held())

    def test_what_a_provider_does_not_cancel_is_held_until_it_has_ended_there(self):
        for refusal in (False, TransientError("Not now")):
            with self.subTest(refusal=refusal):
                self.service.reset()
                self.service.answers["cancel"] = [refusal]
                job = self._submitted()
                with mute_logger("odoo.addons.llm_generate_job.engine.maintain"):
                    job.action_cancel()
                self.assertEqual(self._slots(), 0)
                for state, left in (("running", 1), (TransientError("Away"), 1), ("completed", 0)):
                    self._held().asked_at = False
                    answer = {"state": state} if isinstance(state, str) else state
                    if state == "completed":
                        answer = posted("Too late")
                    self.service.answers["check"] = [answer]
                    [asked] = self._engine()._held_at_providers(9)
                    self.assertFalse(self._engine()._held_at_providers(9))
                    self._engine()._ask_about_held(*asked)
                    self.assertEqual(len(self._held()), left)
                self.assertEqual(job.state, "cancelled")
                self.assertFalse(job.thread_id.message_ids.filtered(lambda m: "late" in m.body))
                self.env["llm.generation.job"].search([("state", "=", "queued")]).action_cancel()

    def test_what_goes_on_at_a_provider_is_held_beyond_its_time_but_no_second_day(self):
        self.service.answers["cancel"] = [False]
        job = self._submitted()
        job.action_cancel()
        attempt = job.attempt_ids
        for hours, is_kept in ((23, True), (25, False)):
            with self.subTest(hours=hours):
                attempt.started_at = fields.Datetime.now() - timedelta(hours=hours)
                self._held().write({
                    "until": fields.Datetime.now() + timedelta(seconds=5), "asked_at": False
                })  # fmt: skip
                self.service.answers["check"] = [{"state": "running"}]
                [asked] = self._engine()._held_at_providers(9)
                self._engine()._ask_about_held(*asked)
                self.env.invalidate_all()
                left = (self._held().until - fields.Datetime.now()).total_seconds()
                self.assertEqual(left > 30, is_kept, left)

    def test_a_job_that_a_provider_accepts_too_late_is_held_until_it_is_cancelled_there(self):
        job, claim = self._claimed()
        job.action_cancel()
        self._apply(claim, state="running", external_job_id="late-1")
        self.assertEqual(len(self._held()), 1)
        self._engine()._cancel_at_providers()
        self.assertEqual(self.service.calls["cancel"], [job.id])
        self.assertFalse(self._held())

    def test_a_question_that_is_answered_late_says_whether_it_goes_on(self):
        self.service.answers["cancel"] = [False]
        job = self._submitted()
        claim = self._claim_of(job, job.attempt_token)
        job.action_cancel()
        self._apply(claim, state="running")
        self.assertEqual(len(self._held()), 1)
        self._apply(claim, state="completed")
        self.assertFalse(self._held())

    # === PROCESSES THAT END === #

    def _dead(self, name, silence=60):
        runner = self.env["llm.generation.runner"].browse(self._engine()._runner_row(name, 4))
        job = self._create_job("queued")
        self._engine()._claim(1, runner.id, runner.name, self.queue.ids)
        runner.heartbeat_at = fields.Datetime.now() - timedelta(seconds=silence)
        with self.assertLogs("odoo.addons.llm_generate_job.engine.liveness", "WARNING"):
            self.assertEqual(self._engine()._rescue(10.0), 1)
        return job

    def test_what_a_vanished_machine_called_is_held_until_it_has_stopped_its_calls(self):
        self._dead("elsewhere:1")
        wait = (self._held().until - fields.Datetime.now()).total_seconds()
        self.assertAlmostEqual(wait, TAKEN_ALONE - 60, delta=15)

    def test_what_a_process_called_that_has_long_stopped_its_calls_is_not_held(self):
        self._dead("elsewhere:1", TAKEN_ALONE + 5)
        self.assertEqual(self._slots(), 1)

    def test_what_a_process_of_this_machine_called_ended_with_it(self):
        ended = max(psutil.pids()) + 10_000_000
        self._dead(f"{socket.gethostname()}:{ended} queue_job")
        self.assertEqual(self._slots(), 1)

    def test_a_process_that_leaves_holds_its_slots_for_a_moment(self):
        runner_id = self._engine()._runner_row("host:1", 4)
        self._create_job("queued")
        claims, _waits = self._engine()._claim(1, runner_id, "host:1", self.queue.ids)
        self._engine()._snooze_claims(claims)
        self._engine()._unregister_runner(runner_id)
        self.assertLess(
            self._held().until, fields.Datetime.now() + timedelta(seconds=30)
        )  # fmt: skip

    def test_what_no_thread_of_a_living_process_has_is_not_held(self):
        runner_id = self._engine()._runner_row("host:1", 4)
        self._create_job("queued")
        self._engine()._claim(1, runner_id, "host:1", self.queue.ids)
        with self.assertLogs("odoo.addons.llm_generate_job.engine.liveness", "WARNING"):
            self.assertEqual(self._engine()._rescue_lost(runner_id, []), 1)
        self.assertFalse(self._held())

    # === CALLS === #

    def test_a_call_that_finds_itself_overtaken_frees_its_slot(self):
        job = self._create_job("queued", self.direct_model)
        claim = self._claim(job)
        [job_context] = self._engine()._prefetch([claim])
        with patch.object(type(self._engine()), "_heard", side_effect=OvertakenError):
            job.action_cancel()
            self.assertEqual(len(self._held()), 1)
            self._engine()._run(job_context)
        self.assertFalse(self._held())

    def test_who_is_submitted_has_time_to_say_its_id_before_it_is_hung_up_on(self):
        seen = []

        def create(job):
            seen.append(received(job.env, "generation_recorder").execution.patience)
            return "ext-1"

        self.service.answers["create"] = [create]
        for model in (self.native_model, self.direct_model):
            claim = self._claim(self._create_job("queued", model))
            [job_context] = self._engine()._prefetch([claim])
            execution = Execution(claim)
            self._engine()._run(job_context, execution=execution)
            seen.append(execution.patience)
        self.assertEqual(seen, [5.0, 5.0, 0.0])

    def test_a_call_may_be_silent_until_the_engine_has_ended_it(self):
        self.queue.job_timeout = 1234
        recorder, (job, claim) = CallRecorder(), self._claimed()
        provider = self.native.with_context(generation_recorder=recorder)
        self.assertFalse(provider._answer_seconds())
        recorder.execution = Execution(claim)
        self.assertGreater(provider._answer_seconds(), 1234 + HEARTBEAT)
        self.queue.job_timeout = 0
        job.action_complete()
        recorder.execution = Execution(self._claimed()[1])
        self.assertFalse(provider._answer_seconds())

    # === SHARES === #

    def test_a_provider_takes_what_others_have_no_right_to(self):
        share = self._engine()._share
        many = [(provider, 9) for provider in range(2, 9)]
        cases = {
            "nobody else": (64, 99, [], {}, 64),
            "another with few": (64, 99, [(2, 10)], {}, 54),
            "another that has its own": (54, 99, [(2, 10)], {2: 10}, 54),
            "another with more than its own": (32, 99, [(2, 99)], {2: 32}, 32),
            "many others": (64, 99, many, {}, 8),
            "many others, and its own share": (56, 99, many, {1: 8}, 0),
            "what somebody had before others came": (4, 4, many, {1: 1, 2: 59}, 1),
            "the last one": (1, 9, many, {2: 63}, 1),
        }
        for what, (free, limit, others, busy, expected) in cases.items():
            with self.subTest(what=what):
                self.assertEqual(share(free, 1, limit, others, Counter(busy)), expected)
        self.assertEqual(share(64, 1, 5, [(2, 99)], None), 64)

    def test_silent_providers_leave_threads_for_others(self):
        share = self._engine()._share
        busy, free, in_use = Counter(), 64, [(provider, 5) for provider in range(14)]
        silent, healthy = in_use[:-1], 13
        for provider, limit in silent * 2:
            others = [one for one in in_use if one[0] != provider]
            count = min(share(free, provider, limit, others, busy), limit - busy[provider])
            busy[provider] += count
            free -= count
        self.assertGreater(busy.total(), 55)
        while count := min(share(free, healthy, 5, silent, busy), 5 - busy[healthy]):
            busy[healthy] += count
            free -= count
        self.assertGreaterEqual(busy[healthy], 4)

    def test_who_gets_less_than_there_is_to_do_is_looked_at_again(self):
        (self.queue | self.direct_queue).max_concurrent_jobs = 9
        self._create_job("running", self.direct_model).action_complete()
        jobs = [self._create_job("queued") for _job in range(6)]
        count, _contexts, waits = self._engine()._take(8, None, None, self.queue.ids, Counter())
        self.assertEqual(count, 4)
        self.assertEqual(list(waits), self.queue.ids)
        self.assertEqual(len([job for job in jobs if job.state == "queued"]), 2)

    # === QUESTIONS === #

    def _due(self, count, model=None):
        self.queue.max_concurrent_jobs = 50
        jobs = self.env["llm.generation.job"]
        for _job in range(count):
            job = self._create_job("queued", model)
            self._process_queue(job.provider_id)
            job.next_poll_at = fields.Datetime.now() - timedelta(seconds=9)
            jobs |= job
        return jobs

    def test_providers_take_turns_to_be_asked(self):
        other, model = self._create_provider("Other", "fakenative")
        first, second = self._due(6), self._due(2, model)
        first.write({"result_expires_at": fields.Datetime.now()})
        claims = self._engine()._claim_polls(8, busy=[])
        self.assertEqual(len(claims), 4)
        self.assertEqual(sum(claim.job_id in second.ids for claim in claims), 2)
        self.assertFalse(self._engine()._claim_polls(4, busy=[self.native.id] * 5))
        self.assertEqual({claim.provider_id for claim in claims}, {self.native.id, other.id})

    def test_a_job_is_asked_about_by_one_at_a_time(self):
        job = self._due(1)
        [claim] = self._engine()._claim_polls(8, busy=[])
        params = {"job": claim.job_id, "token": claim.token, "pause": HINT_PAUSE}
        self._engine()._change(sql.HINT, params)  # a webhook
        self.env.invalidate_all()
        self.assertGreater(job.next_poll_at, fields.Datetime.now())
        job.next_poll_at = fields.Datetime.now() - timedelta(seconds=9)
        self.assertFalse(self._engine()._claim_polls(8, busy=[]))
        self.assertFalse(self._engine()._claim_question(claim))
        job.polled_until = fields.Datetime.now() - timedelta(seconds=1)
        self._engine()._renew_polls([claim])
        self.assertGreater(job.polled_until, fields.Datetime.now())
        self.assertGreater(job.next_poll_at, fields.Datetime.now())
        self._apply(claim, state="running")
        self.assertFalse(job.polled_until)
        job.hinted_at = False
        self.assertTrue(self._engine()._claim_question(claim))
