import socket
import time
from datetime import timedelta
from unittest.mock import patch

from odoo import fields
from odoo.tools import mute_logger

from ..exceptions import BadRequestError, NoJobInterfaceError, TransientError
from ..protocol import bounded_http
from ..protocol.answer import Answer
from .common import ADDON, LlmGenerationCommon, posted


class TestLlmGenerationUpkeep(LlmGenerationCommon):
    def _submitted(self, **values):
        job = self._create_job("queued", **values)
        self._process_queue()
        return job

    def _ago(self, **delta):
        return fields.Datetime.now() - timedelta(**delta)

    # === POLLING === #

    def test_an_external_job_is_asked_about_when_it_is_due(self):
        job = self._submitted()
        claim_polls = self._engine()._claim_polls
        self.assertFalse(claim_polls(10))
        job.next_poll_at = self._ago(seconds=1)
        [claim] = claim_polls(10)
        self.assertEqual(claim.job_id, job.id)
        self.assertFalse(claim_polls(10))

    def test_what_the_provider_forgets_first_is_asked_about_first(self):
        jobs = [self._submitted() for _job in range(3)]
        for job in jobs:
            job.next_poll_at = self._ago(seconds=60)
        jobs[2].result_expires_at = self._ago(seconds=-60)
        jobs[1].result_expires_at = self._ago(seconds=-600)
        claims = [self._engine()._claim_polls(1)[0].job_id for _job in jobs]
        self.assertEqual(claims, [jobs[2].id, jobs[1].id, jobs[0].id])

    def test_the_questions_become_rarer(self):
        job = self._submitted()
        waits = []
        for _poll in range(12):
            self.env["llm.generation.queue"]._check_job_statuses()
            waits.append((job.next_poll_at - fields.Datetime.now()).total_seconds())
        self.assertLess(waits[0], 5)
        self.assertGreater(waits[-1], 20)
        self.assertLessEqual(max(waits), 31)

    def test_the_provider_may_say_when_to_ask_again(self):
        job = self._submitted()
        self.service.answers["check"] = [
            {"state": "running", "poll_after": 120, "expires_in": 3600}
        ]
        self.env["llm.generation.queue"]._check_job_statuses()
        wait = (job.next_poll_at - fields.Datetime.now()).total_seconds()
        self.assertAlmostEqual(wait, 120, delta=20)
        expiry = (job.result_expires_at - fields.Datetime.now()).total_seconds()
        self.assertAlmostEqual(expiry, 3600, delta=20)

    def test_checking_says_how_many_were_asked_about(self):
        self._submitted()
        self._submitted()
        self._create_job("running", self.direct_model)
        self.assertEqual(self.env["llm.generation.queue"]._check_job_statuses(), 2)

    def test_external_jobs_are_looked_at_every_half_minute(self):
        cron = self.env.ref("llm_generate_job.ir_cron_check_jobs")
        triggers = self.env["ir.cron.trigger"].search([("cron_id", "=", cron.id)])
        self._engine()._schedule_check()
        self.assertFalse(self.env["ir.cron.trigger"].search([("cron_id", "=", cron.id)]) - triggers)
        self._submitted()
        self._engine()._schedule_check()
        new = self.env["ir.cron.trigger"].search([("cron_id", "=", cron.id)]) - triggers
        wait = (new.call_at - fields.Datetime.now()).total_seconds()
        self.assertAlmostEqual(wait, 30, delta=10)

    # === TIMEOUTS === #

    def test_a_job_that_takes_too_long_fails_and_is_retried(self):
        self.queue.job_timeout = 60
        late, young = self._submitted(), self._submitted()
        late.write({"started_at": self._ago(seconds=61), "asked_at": self._ago(seconds=0)})
        young.started_at = self._ago(seconds=30)
        self.assertEqual(self._engine()._fail_overdue(), 1)
        self.assertRecordValues(
            late | young,
            [
                {"state": "failed", "error_type": "timeout"},
                {"state": "running", "error_type": False},
            ],
        )
        self.assertIn("60 seconds", late.error_message)
        self.assertTrue(late.retry_at)

    def test_a_job_that_took_too_long_is_stopped_at_the_provider(self):
        self.queue.job_timeout = 60
        job = self._submitted()
        job.started_at = self._ago(seconds=61)
        self.service.answers["check"] = [{"state": "running"}]
        self.env["llm.generation.queue"]._check_job_statuses()
        self.assertEqual(job.state, "failed")
        self.assertEqual(self.service.calls["cancel"], [job.id])

    def test_what_may_have_ended_while_nobody_asked_is_asked_about_first(self):
        self.queue.job_timeout = 60
        jobs = self._submitted() | self._submitted()
        jobs.write({"started_at": self._ago(hours=3), "asked_at": self._ago(hours=3, seconds=-30)})
        self.assertEqual(self._engine()._fail_overdue(), 0)
        self.service.answers["check"] = [posted("Hi"), {"state": "running"}]
        self.env["llm.generation.queue"]._check_job_statuses()
        self.assertEqual(set(jobs.mapped("state")), {"completed", "failed"})
        self.assertEqual(len(self.service.calls["create"]), 2)

    def test_a_job_whose_service_is_no_longer_there_ends_with_a_sentence(self):
        job = self._submitted()
        self.service.answers["check"] = [NoJobInterfaceError("fakenative")]
        self.env["llm.generation.queue"]._check_job_statuses()
        self.assertRecordValues(job, [{"state": "failed", "error_type": "provider_failed"}])
        self.assertIn("no longer installed", job.error_message)

    def test_a_queue_without_a_timeout_waits_for_ever(self):
        self.queue.job_timeout = 0
        job = self._submitted()
        job.started_at = self._ago(days=30)
        self.assertEqual(self._engine()._fail_overdue(), 0)
        self.assertEqual(job.state, "running")

    def test_an_answer_after_the_timeout_is_thrown_away(self):
        self.queue.job_timeout = 60
        job = self._create_job("queued")
        claim = self._claim(job)
        job.started_at = self._ago(seconds=61)
        self._engine()._fail_overdue()
        self.assertFalse(self._apply(claim, state="completed"))
        self.assertEqual(job.state, "failed")

    # === WHAT WAS ACCEPTED TOO LATE === #

    def test_a_provider_that_accepts_a_cancelled_job_is_told(self):
        job = self._create_job("queued")
        claim = self._claim(job)
        job.action_cancel()
        self.assertFalse(self.service.calls["cancel"])
        accepted = Answer("running", external_job_id="too-late")
        self._engine()._apply([(claim, accepted)])
        self.env["llm.generation.queue"]._check_job_statuses()
        self.assertEqual(job.state, "cancelled")
        self.assertEqual(self.service.calls["cancel"], [job.id])

    def _cancelled(self, *answers):
        self.service.answers["cancel"] = [*answers]
        job = self._submitted()
        with mute_logger("odoo.addons.llm_generate_job.engine.maintain"):
            job.action_cancel()
        self.assertEqual((job.state, self.service.calls["cancel"]), ("cancelled", [job.id]))
        return job

    def _tell_again(self, job, **values):
        job.write({"cancel_again_at": "2020-01-01", **values})
        with mute_logger("odoo.addons.llm_generate_job.engine.maintain"):
            self._engine()._cancel_at_providers()
        return self.service.calls["cancel"].count(job.id)

    def test_a_cancellation_that_could_not_be_told_is_told_again(self):
        job = self._cancelled(TransientError("503"), True)
        self.assertTrue(job.cancel_requested)
        self._engine()._cancel_at_providers()
        self.assertEqual(self.service.calls["cancel"], [job.id], "not at once")
        self.assertEqual(self._tell_again(job), 2)
        self.assertFalse(job.cancel_requested or job.cancel_again_at)
        self.assertIsNone(self._engine()._next_due())

    def test_a_cancellation_that_is_never_confirmed_is_given_up(self):
        job = self._cancelled(TransientError("503"))
        self.assertEqual(self._tell_again(job), 2)
        self.assertTrue(job.cancel_requested)
        self.assertEqual(self._tell_again(job, completed_at="2020-01-01"), 3)
        self.assertFalse(job.cancel_requested)

    def test_what_a_provider_refuses_to_cancel_is_told_once(self):
        for answer in (False, BadRequestError("No such job"), ValueError("A mistake")):
            self.service.reset()
            self.assertFalse(self._cancelled(answer).cancel_requested)

    def test_a_process_that_dies_as_it_tells_has_told_nobody(self):
        job = self._submitted()
        with patch.object(type(self._engine()), "_cancel_at_provider"):
            job.action_cancel()
        self.assertTrue(job.cancel_requested)
        self.assertGreater(self._engine()._next_due(), 30)
        self.assertEqual(self._tell_again(job), 1)
        self.assertFalse(job.cancel_requested)

    def test_a_try_that_was_accepted_too_late_is_ended_before_the_next(self):
        ended = []
        self.service.answers["cancel"] = [lambda job: ended.append(job.external_job_id)]
        job = self._create_job("queued")
        claim = self._claim(job)
        job._set_state("queued")
        accepted = Answer("running", external_job_id="too-late")
        self._engine()._apply([(claim, accepted)])
        self._process_queue()
        self.assertEqual(ended, ["too-late"])
        self.assertEqual((job.state, job.external_job_id), ("running", "ext-1"))

    def test_a_provider_that_never_answers_keeps_no_thread_for_ever(self):
        patience = self._patched(f"{ADDON}.engine.maintain.POLL_TIMEOUT", 0.2)
        with socket.create_server(("127.0.0.1", 0)) as silent, patience:
            address = f"http://127.0.0.1:{silent.getsockname()[1]}/jobs"

            def ask(job):
                bounds.append(job.provider_id._answer_seconds())
                bounded_http.request_json("POST", address, timeout=60)

            bounds, began = [], time.monotonic()
            job = self._submitted()
            self.service.answers |= {"check": [ask], "cancel": [ask]}
            self.assertIs(job.check_status(), False)
            with mute_logger(f"{ADDON}.engine.maintain"):
                job.action_cancel()
            self._engine()._ask_about_held(job.attempt_token, job.id, "ext-1")
            self.assertLess(time.monotonic() - began, 30)
        self.assertEqual(len(bounds), 3)
        self.assertNotIn(None, bounds)
        self.assertTrue(job.cancel_requested, "it is told again")

    def test_who_was_tried_again_is_not_cancelled_for_the_earlier_try(self):
        job = self._submitted()
        job._set_state("failed", error_type="timeout", cancel_requested=True)
        self.service.answers["create"] = ["ext-2"]
        job.action_retry()
        self._process_queue()
        told = list(self.service.calls["cancel"])
        self._engine()._cancel_at_providers()
        self.assertEqual(self.service.calls["cancel"], told)
        self.service.answers["check"] = [posted("Hi")]
        job.check_status()
        self.assertEqual(job.state, "completed")
