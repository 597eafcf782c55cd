from datetime import timedelta
from unittest.mock import patch

from odoo import fields
from odoo.tests import users

from odoo.addons.base.tests.test_ir_cron import CronMixinCase

from ..exceptions import TransientError
from ..runner import runner as runners
from .common import LlmGenerationCommon, posted

RETENTION = "odoo.addons.llm_generate_job.engine.maintain"
CRONS = {
    "ir_cron_process_queues": (1, "minutes"),
    "ir_cron_check_jobs": (1, "minutes"),
    "ir_cron_retry_failed_jobs": (5, "minutes"),
    "ir_cron_clean_up_jobs": (1, "days"),
}


class TestCrons(LlmGenerationCommon, CronMixinCase):
    def _trigger(self, name):
        with self.enter_registry_test_mode():
            self.env.ref(f"llm_generate_job.{name}").method_direct_trigger()
        self.env.invalidate_all()

    def _captured(self):
        return self.capture_triggers("llm_generate_job.ir_cron_process_queues")

    def test_the_four_actions_are_there_and_left_alone_by_upgrades(self):
        for name, interval in CRONS.items():
            with self.subTest(name=name):
                cron = self.env.ref(f"llm_generate_job.{name}")
                self.assertEqual((cron.interval_number, cron.interval_type), interval)
                self.assertEqual(cron.user_id, self.env.ref("base.user_root"))
                self.assertTrue(cron.active)
                data = self.env["ir.model.data"].search([
                    ("module", "=", "llm_generate_job"),
                    ("name", "=", name),
                ])
                self.assertTrue(data.noupdate)

    def test_process_queues_runs_what_waits(self):
        jobs = self._create_job("queued") | self._create_job("queued", self.direct_model)
        self._trigger("ir_cron_process_queues")
        self.assertEqual(sorted(jobs.mapped("state")), ["completed", "running"])

    def test_process_queues_does_not_wait_for_its_runner(self):
        queues = self.env["llm.generation.queue"].with_context(generation_inline=False, cron_id=1)
        with patch.object(runners, "ensure") as ensure:
            self.assertEqual(queues._process_all_queues(), 0)
            ensure.return_value.wake.assert_called_once_with()
            ensure.return_value.claim.assert_not_called()

    def test_a_server_that_ends_processes_nothing(self):
        queues = self.env["llm.generation.queue"].with_context(generation_inline=False)
        job = self._create_job("queued")
        triggers = self.env["ir.cron.trigger"].sudo()
        before = triggers.search([])
        with patch.object(runners, "ensure", return_value=None):
            self.assertEqual(queues._process_all_queues(), 0)
            self.assertFalse(triggers.search([]) - before)
            self.assertEqual(queues.with_context(cron_id=1)._process_all_queues(), 0)
        self.assertEqual(job.state, "queued")
        [passed_on] = triggers.search([]) - before
        self.assertEqual(passed_on.cron_id, self.env.ref("llm_generate_job.ir_cron_process_queues"))

    def test_check_jobs_ends_what_the_provider_has_ended(self):
        job = self._create_job("queued")
        self._process_queue()
        self.service.answers["check"] = [posted("Hi")]
        self._trigger("ir_cron_check_jobs")
        self.assertEqual(job.state, "completed")

    def test_retry_failed_jobs_queues_what_is_due(self):
        self.service.answers["create"] = [TransientError("Oops")]
        job = self._create_job("queued")
        self._process_queue()
        job.retry_at = fields.Datetime.now() - timedelta(seconds=5)
        self._trigger("ir_cron_retry_failed_jobs")
        self.assertEqual((job.state, job.retry_count), ("queued", 1))

    def test_clean_up_jobs_removes_what_is_a_week_old(self):
        old, young = self._create_job("completed"), self._create_job("completed")
        old.completed_at -= timedelta(days=8)
        self._trigger("ir_cron_clean_up_jobs")
        self.assertFalse(old.exists())
        self.assertTrue(young.exists())

    def test_clean_up_jobs_is_called_again_for_what_is_left(self):
        old = self._create_job("completed") + self._create_job("completed")
        old.completed_at = fields.Datetime.now() - timedelta(days=8)
        times = []

        def callback(cron, *args):
            times.append(len(old.exists()))
            return run(cron, *args)

        run = type(self.env["ir.cron"])._callback
        with (
            patch(f"{RETENTION}.CLEAN_UP_BATCH", 1),
            patch(f"{RETENTION}.CLEAN_UP_SECONDS", 0.0),
            patch.object(type(self.env["ir.cron"]), "_callback", callback),
        ):
            self._trigger("ir_cron_clean_up_jobs")
        self.assertFalse(old.exists())
        self.assertGreater(len(times), 1)

    @users("generation_user")
    def test_queueing_wakes_the_queues_at_once(self):
        thread = self._create_thread()
        with self._captured() as captured:
            thread.enqueue_generation("How are you?")
            self.assertEqual(len(captured.records), 1)
            self.assertLessEqual(captured.records.call_at, fields.Datetime.now())

    def test_many_jobs_wake_the_queues_once(self):
        drafts = self._create_job() | self._create_job() | self._create_job()
        with self._captured() as captured:
            drafts.action_queue()
            self.assertEqual(len(captured.records), 1)

    def test_a_slot_that_becomes_free_wakes_the_queues(self):
        for end in ("action_complete", "action_fail", "action_cancel"):
            job = self._create_job("running")
            self.env.cr.postcommit.data.clear()
            with self.subTest(end=end), self._captured() as captured:
                getattr(job, end)()
                self.assertEqual(len(captured.records), 1)

    def test_a_draft_wakes_nobody(self):
        with self._captured() as captured:
            self._create_job()
            self.assertFalse(captured.records)
