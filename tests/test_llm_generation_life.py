import contextlib
import functools
import re
from datetime import timedelta
from unittest.mock import Mock

from odoo import fields

from ..engine import sql
from ..protocol import backoff
from ..runner.limits import FENCE, HEARTBEAT, LIVENESS_LOCK, POLL_INTERVAL, TAKEN_ALONE
from ..runner.notifier import private_connection
from .common import ADDON, LlmGenerationCommon

#: Seconds; less than HEARTBEAT_TIMEOUT, as a cluster that was just started counts as a heartbeat.
SILENCE = 10.0
LOGGER = "odoo.addons.llm_generate_job.engine.liveness"


class TestLlmGenerationLife(LlmGenerationCommon):
    """Processes die: their jobs do not."""

    def setUp(self):
        super().setUp()
        self.runner = self._start_runner()

    def _start_runner(self):
        runner_id = self._engine()._runner_row("host:1", 4)
        return self.env["llm.generation.runner"].browse(runner_id)

    def _running(self, runner=None, **values):
        """Create a job that a runner works on."""
        runner = runner or self.runner
        job = self._create_job("queued", **values)
        claims, _wait = self._engine()._claim(1, runner.id, runner.name, self.queue.ids)
        self.assertEqual(claims[0].job_id, job.id)
        return job

    def _accepted(self, job, external_id="ext-1"):
        token = job.attempt_token
        claim = self._claim_of(job, token)
        answer = self._answer("running", external_job_id=external_id)
        self._engine()._apply([(claim, answer)])

    def _kill(self, runner=None):
        """Let a runner be silent for a minute."""
        (runner or self.runner).heartbeat_at = fields.Datetime.now() - timedelta(minutes=1)

    def _rescue(self):
        return self._engine()._rescue(SILENCE)

    def _rescue_noisily(self):
        with self.assertLogs(LOGGER, "WARNING"):
            return self._rescue()

    def test_code_that_is_newer_than_its_tables_is_known_by_its_version(self):
        newer = self._engine()._newer_than_tables
        self.assertEqual(newer(), [])
        module = self.env["ir.module.module"].search([("name", "=", ADDON.rpartition(".")[2])])
        on_it = self.env["ir.module.module"].search([
            ("name", "=like", f"{module.name}_%"),
            ("state", "=", "installed"),
        ])[:1]
        odoos = self.env["ir.module.module"].search([("name", "=", "mail")])
        versions = {one: one.latest_version for one in module + on_it + odoos}
        for changed, version, told in (
            (module, "19.0.0.9.0", module),
            (module, "18.0.99.0.0", module),
            (module, "19.0.99.0.0", on_it.browse()),
            (module, False, on_it.browse()),
            (on_it, "19.0.0.9.0", on_it),
            (odoos, "19.0.0.1", on_it.browse()),
        ):
            with self.subTest(module=changed.name, version=version):
                changed.latest_version = version
                self.assertEqual(newer(), told.mapped("name"))
                changed.latest_version = versions[changed]

    def test_a_job_of_a_dead_process_is_given_back_and_counts_a_retry(self):
        job = self._running()
        queued_at = job.queued_at
        self._kill()
        self.assertEqual(self._rescue_noisily(), 1)
        self.assertRecordValues(
            job,
            [
                {
                    "state": "queued",
                    "retry_count": 1,
                    "error_type": "worker_died",
                    "queued_at": queued_at,
                }
            ],
        )
        self.assertRecordValues(
            job.attempt_ids, [{"outcome": "snoozed", "error_type": "worker_died"}]
        )
        self.assertFalse(self.runner.exists())
        self.assertEqual(self._process_queue(), 1)

    def test_an_external_job_of_a_dead_process_is_adopted(self):
        job = self._running()
        self._accepted(job)
        self._kill()
        self._rescue()
        self.assertRecordValues(
            job, [{"state": "running", "retry_count": 0, "external_job_id": "ext-1"}]
        )
        self._process_queue()
        self.assertFalse(self.service.calls["create"])
        self.service.answers["check"] = [{"state": "completed"}]
        job.check_status()
        self.assertEqual(job.state, "completed")

    def test_an_external_job_that_is_still_in_a_dead_process_name_is_adopted(self):
        job = self._noted_by_its_provider()
        self._kill()
        self._rescue_noisily()
        self._is_asked_about(job)

    def test_what_runs_at_the_provider_is_not_lost_by_its_process(self):
        job = self._running()
        self._accepted(job)
        self.assertEqual(self._engine()._rescue_lost(self.runner.id, []), 0)
        self.assertEqual(job.state, "running")

    def _noted_by_its_provider(self):
        """Return a job whose id its provider's code noted before it answered."""
        job = self._running()
        job.external_job_id = "ext-1"
        return job

    def _is_asked_about(self, job):
        self.assertRecordValues(
            job, [{"state": "running", "retry_count": 0, "external_job_id": "ext-1"}]
        )
        self.assertFalse(job.attempt_ids.runner_id)
        self.assertLessEqual(job.next_poll_at, fields.Datetime.now())

    def test_what_the_provider_runs_already_is_not_lost_but_asked_about(self):
        job = self._noted_by_its_provider()
        with self.assertLogs(LOGGER, "WARNING"):
            self.assertEqual(self._engine()._rescue_lost(self.runner.id, []), 1)
        self._is_asked_about(job)

    def test_what_the_provider_runs_already_is_not_given_back_by_who_leaves(self):
        job = self._noted_by_its_provider()
        self._engine()._snooze_claims([self._claim_of(job, job.attempt_token)])
        self._is_asked_about(job)

    def test_what_a_process_left_that_has_signed_off_holds_no_slot(self):
        job = self._running()
        self.runner.unlink()
        self._rescue_noisily()
        self.assertEqual(job.state, "queued")
        self.assertFalse(self.env["llm.generation.held.slot"].search([]))

    def test_who_signs_on_under_another_row_keeps_its_calls(self):
        overtaken, job = self._running(), self._running()
        overtaken._set_state("queued")
        listener = Mock()  # PostgreSQL has not noticed that the connection before is dead
        listener.execute.side_effect = lambda _statement, key=None: [
            (key and key[1] != self.runner.id,)
        ]
        again = self._engine()._register_runner(listener, "host:1", 4, self.runner.id)
        self.assertNotEqual(again, self.runner.id)
        self.assertEqual(job.attempt_ids.runner_id.id, again)
        self.assertEqual(self.env["llm.generation.held.slot"].search([]).runner_id.id, again)
        self._kill()
        self.assertEqual(self._rescue(), 0)
        self.assertFalse(self.runner.exists())
        self.assertEqual(job.state, "running")

    def test_a_process_that_gives_signs_of_life_keeps_its_jobs(self):
        job = self._running()
        self.assertEqual(self._rescue(), 0)
        self.assertEqual((job.state, job.retry_count), ("running", 0))
        self.assertTrue(self.runner.exists())

    def test_a_silent_process_that_holds_its_lock_is_alive(self):
        job = self._running()
        self._kill()
        with contextlib.closing(private_connection(self.env.cr.dbname)) as connection:
            cursor, key = connection.cursor(), [LIVENESS_LOCK, self.runner.id]
            cursor.execute("SELECT pg_advisory_lock(%s, %s)", key)
            self.assertEqual(self._rescue(), 0)
            self.assertEqual(job.state, "running")
            cursor.execute("SELECT pg_advisory_unlock(%s, %s)", key)
        self.assertEqual(self._rescue_noisily(), 1)

    def test_who_has_long_stopped_its_calls_is_dead_whatever_holds_its_lock(self):
        self._running()
        self.runner.heartbeat_at = fields.Datetime.now() - timedelta(seconds=TAKEN_ALONE + 5)
        with contextlib.closing(private_connection(self.env.cr.dbname)) as connection:
            key = [LIVENESS_LOCK, self.runner.id]
            connection.cursor().execute("SELECT pg_advisory_lock(%s, %s)", key)
            self.assertEqual(self._rescue_noisily(), 1)

    def test_calls_are_stopped_before_others_take_their_jobs(self):
        self.assertLess(FENCE + 3 * POLL_INTERVAL, TAKEN_ALONE)
        self.assertLess(TAKEN_ALONE + 2 * HEARTBEAT, 120)
        silent = re.findall(r"keepalives_\w+ = (\d+)", sql.LIVENESS_SESSION)
        idle, interval, count = map(int, silent)
        self.assertGreater(idle + interval * count, FENCE)

    def test_one_dead_process_does_not_cost_another_its_jobs(self):
        alive = self._start_runner()
        mine, others = self._running(), self._running(alive)
        self._kill()
        self._rescue_noisily()
        self.assertEqual((mine.state, others.state), ("queued", "running"))
        self.assertTrue(alive.exists())

    def test_a_job_that_no_process_owns_is_given_back(self):
        job = self._running()
        self.runner.unlink()
        self.assertEqual(self._rescue_noisily(), 1)
        self.assertEqual(job.state, "queued")

    def test_a_job_that_kills_each_process_is_given_up(self):
        job = self._running(max_retries=9)
        for death in range(1, backoff.MAX_WORKER_DEATHS + 1):
            self._kill()
            self._rescue_noisily()
            if death < backoff.MAX_WORKER_DEATHS:
                self.assertEqual(job.state, "queued")
                self.runner = self._start_runner()
                self._engine()._claim(1, self.runner.id, "host:1", self.queue.ids)
        self.assertRecordValues(job, [{"state": "failed", "error_type": "worker_died"}])

    def test_a_job_without_a_retry_left_fails_with_its_process(self):
        job = self._running(max_retries=0)
        self._kill()
        self._rescue_noisily()
        self.assertRecordValues(job, [{"state": "failed", "error_type": "worker_died"}])

    def test_what_a_dead_process_still_brings_is_thrown_away(self):
        job = self._running()
        claim = self._claim_of(job, job.attempt_token)
        self._kill()
        self._rescue_noisily()
        self.assertFalse(self._apply(claim, state="completed"))
        self.assertEqual(job.state, "queued")

    def test_a_process_that_leaves_gives_back_without_a_retry(self):
        job = self._running()
        self._engine()._snooze_claims([self._claim_of(job, job.attempt_token)])
        self.assertEqual((job.state, job.retry_count), ("queued", 0))
        self._engine()._unregister_runner(self.runner.id)
        self.assertFalse(self.runner.exists())

    def test_a_heartbeat_tells_who_was_taken_for_dead(self):
        beat = functools.partial(self._engine()._heartbeat, self.env.cr, self.runner.id)
        self.runner.heartbeat_at = fields.Datetime.now() - timedelta(minutes=1)
        self.env.flush_all()
        self.assertTrue(beat())
        self.runner.invalidate_recordset()
        silence = fields.Datetime.now() - self.runner.heartbeat_at
        self.assertLess(silence.total_seconds(), 30)
        self.runner.unlink()
        self.assertFalse(beat())
