from datetime import timedelta

from odoo import fields
from odoo.modules.neutralize import get_neutralization_queries

from ..engine.liveness import IDENTITY
from ..models.llm_provider import read_secret
from ..runner.limits import HEARTBEAT_TIMEOUT
from .common import LlmGenerationCommon

LOGGER = "odoo.addons.llm_generate_job.engine.liveness"


class TestCopiedDatabase(LlmGenerationCommon):
    """A copied database does not do again what the original may have done."""

    def setUp(self):
        super().setUp()
        self.parameters = self.env["ir.config_parameter"].sudo()
        self.engine = self._engine()
        self.engine._hold_if_copied()

    def _copy(self):
        """Let the database be a copy, as Odoo makes one."""
        self.parameters.init(force=True)

    def _hold(self):
        with self.assertLogs(LOGGER, "WARNING"):
            self.engine._hold_if_copied()
        self.env.invalidate_all()

    def _accepted(self):
        job = self._create_job("running")
        claim = self._claim_of(job, job.attempt_token)
        answer = self._answer("running", external_job_id="ext-1")
        self._engine()._apply([(claim, answer)])
        return job

    def test_a_database_that_is_none_keeps_its_queues(self):
        self._create_job("queued")
        self.assertIs(self.engine._is_copied(), False)
        self.engine._hold_if_copied()
        self.assertTrue(self.queue.enabled)

    def test_the_first_runner_notes_where_it_is_and_holds_nothing(self):
        self.parameters.search([("key", "=", IDENTITY)]).unlink()
        self._create_job("queued")
        self.assertIsNone(self.engine._is_copied())
        self.engine._runner_row("host:1", 4)
        self.assertTrue(self.queue.enabled)
        self.assertIs(self.engine._is_copied(), False)

    def test_one_under_another_name_is_a_copy_before_odoo_gives_it_an_id(self):
        uuid = self.parameters.get_param("database.uuid")
        self.parameters.set_param(IDENTITY, f"{uuid} another_name")
        self.assertTrue(self.engine._is_copied())

    def test_a_queue_with_waiting_jobs_is_off_and_a_manager_is_told(self):
        job = self._create_job("queued")
        self._copy()
        self._hold()
        self.assertEqual((job.state, self.queue.enabled), ("queued", False))
        self.assertTrue(self.direct_queue.enabled)
        activities = self.queue.activity_ids.filtered(lambda one: one.user_id == self.manager)
        self.assertEqual(len(activities), 1)
        self.assertIn("then resume the queue", activities.note)
        self.assertEqual(self._process_queue(), 0)
        self.queue.with_user(self.manager).action_enable()
        self.assertEqual(self._process_queue(), 1)

    def test_a_queue_that_would_retry_is_off_too(self):
        job = self._create_job("failed")
        job.retry_at = "2020-01-01 00:00:00"
        self._copy()
        self._hold()
        self.assertEqual(self._engine()._retry_due(), 1)
        self.assertEqual(self._process_queue(), 0)

    def test_what_ran_in_a_process_of_the_original_waits_for_a_manager(self):
        long_ago = fields.Datetime.now() - timedelta(seconds=HEARTBEAT_TIMEOUT + 60)
        ghost = self.env["llm.generation.runner"].create({
            "name": "host:1",
            "started_at": long_ago,
            "heartbeat_at": long_ago,
        })
        job = self._create_job("running")
        job.attempt_ids.runner_id = ghost
        self._copy()
        self._hold()
        with self.assertLogs(LOGGER, "WARNING"):
            self.engine._rescue()
        self.assertRecordValues(job, [{"state": "queued", "error_type": "worker_died"}])
        self.assertEqual(self._process_queue(), 0)
        self.assertFalse(self.service.calls["create"])

    def test_what_the_provider_runs_is_asked_about_and_not_submitted_again(self):
        job = self._accepted()
        self._copy()
        self._hold()
        self.service.answers["check"] = [{"state": "failed", "error_type": "transient"}]
        self._engine()._check_due()
        self.assertEqual(job.state, "failed")
        job.retry_at = "2020-01-01 00:00:00"
        self._engine()._retry_due()
        calls = len(self.service.calls["create"])
        self.assertEqual((job.state, self._process_queue()), ("queued", 0))
        self.assertEqual(len(self.service.calls["create"]), calls)

    def test_it_is_held_once_and_before_the_first_runner_signs_on(self):
        self._create_job("queued")
        self._copy()
        with self.assertLogs(LOGGER, "WARNING"):
            self.engine._runner_row("host:2", 4)
        self.env.invalidate_all()
        self.assertFalse(self.queue.enabled)
        self.queue.action_enable()
        with self.assertNoLogs(LOGGER, "WARNING"):
            self.engine._runner_row("host:3", 4)
        self.assertTrue(self.queue.enabled)

    def test_a_neutralized_copy_calls_no_provider(self):
        self.direct.api_key = "canary-key"
        self.queue.sudo().webhook_secret = "whsec_Y2FuYXJ5"
        waiting, external = self._create_job("queued"), self._accepted()
        direct = self._create_job("running", model=self.direct_model)
        failed = self._create_job("failed")
        failed.retry_at = "2020-01-01 00:00:00"
        told = self._create_job("cancelled")
        told.cancel_requested = True
        self.env.flush_all()
        [query] = get_neutralization_queries(["llm_generate_job"])
        self.env.cr.execute(query)
        self.env.invalidate_all()
        states = (waiting.state, external.state, direct.state)
        self.assertEqual(states, ("queued", "failed", "failed"))
        self.assertTrue(direct.error_message)
        self.assertEqual(set((external + direct).attempt_ids.mapped("outcome")), {"failed"})
        self.assertFalse(failed.retry_at or told.cancel_requested)
        self.assertFalse((self.queue + self.direct_queue).filtered("enabled"))
        # Its pages answer directly, past all queues: by no key of the original.
        self.assertFalse(read_secret(self.direct, "api_key"))
        self.assertFalse(read_secret(self.queue, "webhook_secret"))
        engine = self._engine()
        self.assertEqual((engine._retry_due(), engine._check_due()), (0, 0))
        self.assertEqual((self._process_queue(), self._process_queue(self.direct)), (0, 0))
        self.assertFalse(any(self.service.calls.values()))
