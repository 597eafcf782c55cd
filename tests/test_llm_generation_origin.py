from odoo.modules.neutralize import get_neutralization_queries

from ..models.llm_generation_origin import PARAMETER
from .common import LlmGenerationCommon

LOGGER = "odoo.addons.llm_generate_job.models.llm_generation_origin"


class TestLlmGenerationOrigin(LlmGenerationCommon):
    """A restored or copied database does not do again what was paid for."""

    def setUp(self):
        super().setUp()
        self.parameters = self.env["ir.config_parameter"].sudo()
        self.origin = self._engine("origin")
        self.origin._note_here()

    def _move(self):
        """Let the database be another one than that which the jobs were last run in."""
        self.parameters.set_param(PARAMETER, "1.1")

    def _settle(self):
        with self.assertLogs(LOGGER, "WARNING"):
            self.assertTrue(self.origin._settle_if_moved())

    def _accepted(self):
        job = self._create_job("running")
        claim = self._claim_of(job, job.attempt_token)
        answer = self._answer("running", external_job_id="ext-1")
        self._engine("verdict")._apply([(claim, answer)])
        return job

    def test_a_database_that_stays_where_it_is_keeps_its_jobs(self):
        waiting, running = self._create_job("queued"), self._create_job("running")
        self.assertFalse(self.origin._settle_if_moved())
        self.assertEqual((waiting.state, running.state), ("queued", "running"))
        self.assertTrue(self.queue.enabled)

    def test_the_first_runner_notes_where_it_is_and_moves_nothing(self):
        self.parameters.search([("key", "=", PARAMETER)]).unlink()
        job = self._create_job("running")
        self._engine("life")._register_runner("host:1", 4)
        self.assertEqual(job.state, "running")
        self.assertEqual(self.parameters.get_param(PARAMETER), self.origin._here())

    def test_what_ran_without_an_id_at_the_provider_is_not_run_again(self):
        job = self._create_job("running")
        self._move()
        self._settle()
        self.assertRecordValues(
            job, [{"state": "failed", "error_type": "unknown_outcome", "retry_at": False}]
        )
        self.assertIn("restored or copied", job.error_message)
        self.assertRecordValues(job.attempt_ids, [{"outcome": "failed"}])

    def test_what_the_provider_runs_is_asked_about_and_has_its_time_anew(self):
        job = self._accepted()
        job.started_at = job.next_poll_at = "2020-01-01 00:00:00"
        self._move()
        self._settle()
        self.assertEqual(self._engine("upkeep")._fail_overdue(), 0)
        self.service.answers["check"] = [{"state": "completed"}]
        self._engine("upkeep")._check_due()
        self.assertEqual(job.state, "completed")
        self.assertFalse(self.service.calls["create"])

    def test_a_queue_with_waiting_jobs_is_off_and_a_manager_is_told(self):
        job = self._create_job("queued")
        self._move()
        self._settle()
        self.assertEqual((job.state, self.queue.enabled), ("queued", False))
        self.assertTrue(self.direct_queue.enabled)
        activities = self.queue.activity_ids.filtered(lambda one: one.user_id == self.manager)
        self.assertEqual(len(activities), 1)
        self.assertIn("1 jobs", activities.note)
        self.assertEqual(self._process_queue(), 0)
        self.queue.with_user(self.manager).action_enable()
        self.assertEqual(self._process_queue(), 1)

    def test_a_queue_that_would_retry_is_off_too(self):
        job = self._create_job("failed")
        job.retry_at = "2020-01-01 00:00:00"
        self._move()
        self._settle()
        self.assertFalse(self.queue.enabled)

    def test_it_is_settled_once_and_before_the_first_runner_signs_on(self):
        job = self._create_job("running")
        ghost = self.env["llm.generation.runner"].create({
            "name": "host:1",
            "started_at": "2020-01-01 00:00:00",
            "heartbeat_at": "2999-01-01 00:00:00",
        })
        self._move()
        with self.assertLogs(LOGGER, "WARNING"):
            runner_id = self._engine("life")._register_runner("host:2", 4)
        self.assertEqual(job.state, "failed")
        self.assertEqual(self.env["llm.generation.runner"].search([]).ids, [runner_id])
        self.assertFalse(ghost.exists())
        again = self._create_job("running")
        self._engine("life")._register_runner("host:3", 4)
        self.assertEqual(again.state, "running")

    def test_a_neutralized_copy_calls_no_provider(self):
        waiting, external = self._create_job("queued"), self._accepted()
        direct = self._create_job("running", model=self.direct_model)
        failed = self._create_job("failed")
        failed.retry_at = "2020-01-01 00:00:00"
        told = self._create_job("cancelled")
        told.must_cancel = True
        self.env.flush_all()
        [query] = get_neutralization_queries(["llm_generate_job"])
        self.env.cr.execute(query)
        self.env.invalidate_all()
        states = (waiting.state, external.state, direct.state)
        self.assertEqual(states, ("queued", "failed", "failed"))
        self.assertTrue(direct.error_message)
        self.assertEqual(set((external + direct).attempt_ids.mapped("outcome")), {"failed"})
        self.assertFalse(failed.retry_at or told.must_cancel)
        self.assertFalse((self.queue + self.direct_queue).filtered("enabled"))
        upkeep = self._engine("upkeep")
        self.assertEqual((upkeep._retry_due(), upkeep._check_due()), (0, 0))
        self.assertEqual((self._process_queue(), self._process_queue(self.direct)), (0, 0))
        self.assertFalse(any(self.service.calls.values()))
