from datetime import timedelta

from odoo import fields

from odoo.addons.llm_generate_job.engine import sql
from odoo.addons.llm_generate_job.runner.messages import Lost

from ..limits import PATIENCE
from .common import QueueJobCommon

#: Seconds; less than HEARTBEAT_TIMEOUT, as a cluster that was just started counts as a heartbeat.
SILENCE = 10.0
LIFE = "odoo.addons.llm_generate_job.engine.liveness"


class TestLoss(QueueJobCommon):
    """Records of queue_job fail, are removed, and wait in vain: our jobs come to an end."""

    def _silence(self, runner):
        runner.heartbeat_at = fields.Datetime.now() - timedelta(minutes=1)
        self.env.flush_all()

    def _rescue(self):
        rescued = self._engine()._rescue(SILENCE)
        self.env.invalidate_all()
        return rescued

    def _begun(self):
        """Return a job that a worker has begun, its record, and the worker's row."""
        job, record = self._handed_over()
        worker = self._engine()._runner_row("host:2 queue_job", 0)
        claim = self._claim_of(job, job.attempt_token)
        self.env["llm.generation.delegation"]._begin([claim], worker, "host:2 queue_job")
        record.state = "started"
        self.env.flush_all()
        self.env.invalidate_all()
        return job, record, self.env["llm.generation.runner"].browse(worker)

    def _assert_waits_again(self, job, *words):
        self.assertRecordValues(job, [{"state": "queued", "retry_count": 0, "error_type": False}])
        attempt = job.attempt_ids[:1]
        self.assertEqual(attempt.outcome, "snoozed")
        for word in words:
            self.assertIn(word, attempt.error_message)

    # === NOT BEGUN === #

    def test_what_waits_in_queue_job_is_not_lost(self):
        job, record = self._handed_over()
        for state in ("pending", "enqueued", "started"):
            record.state = state
            self.env.flush_all()
            self.assertEqual(self._maintain(), 0)
        self.assertEqual(job.state, "running")

    def test_a_record_that_was_cancelled_gives_the_job_back_at_no_cost(self):
        job, record = self._handed_over()
        record.button_cancelled()
        self.assertEqual(self._maintain(), 1)
        self._assert_waits_again(job, record.uuid, "Cancelled")
        self.assertTrue(job.is_scheduled)

    def test_a_record_that_was_set_to_done_gives_the_job_back(self):
        job, record = self._handed_over()
        record.button_done()
        self.assertEqual(self._maintain(), 1)
        self._assert_waits_again(job, record.uuid, "Done")

    def test_a_record_that_failed_gives_the_job_back(self):
        job, record = self._handed_over()
        record.state = "failed"
        self.env.flush_all()
        self.assertEqual(self._maintain(), 1)
        self._assert_waits_again(job, record.uuid, "Failed")

    def test_a_record_that_was_deleted_gives_the_job_back(self):
        job, record = self._handed_over()
        uuid = record.uuid
        record.unlink()
        self.assertEqual(self._maintain(), 1)
        self._assert_waits_again(job, uuid, "deleted")

    def test_who_cancels_or_deletes_a_record_wakes_the_runners(self):
        _job, record = self._handed_over()
        other = self.env["queue.job"].with_delay()._test_job().db_record()
        heard = []
        with self._offered("llm.generation.engine", _wake=lambda _e, what: heard.append(what)):
            other.button_cancelled()
            other.unlink()
            self.assertFalse(heard)
            record.button_cancelled()
            self.assertEqual(heard, [Lost()])
            record.unlink()
        self.assertEqual(heard, [Lost(), Lost()])

    def test_a_claim_that_waits_in_vain_is_given_back_and_the_queue_says_why(self):
        job, record = self._handed_over()
        late = fields.Datetime.now() - timedelta(seconds=PATIENCE + 1)
        job.attempt_ids.started_at = late
        self.env.flush_all()
        self.assertEqual(self._maintain(), 1)
        self._assert_waits_again(job, record.uuid, "60 seconds")
        self.assertEqual(record.state, "cancelled")
        self.assertGreater(self.direct_queue.paused_until, fields.Datetime.now())
        self.assertEqual(self.direct_queue.queue_health, "critical")
        self.assertIn(self.direct_queue.queue_job_channel, self.direct_queue.health_reason)

        self.direct_queue._resume()
        self._hand_over()
        self._work(self._record_of(job))
        self.env.invalidate_all()
        self.assertEqual(job.state, "completed")
        self.assertEqual(self.direct_queue.queue_health, "healthy")

    def test_a_channel_that_is_only_busy_does_not_pause_the_queue(self):
        self._begun()
        job, _record = self._handed_over()
        job.attempt_ids.started_at = fields.Datetime.now() - timedelta(seconds=PATIENCE + 1)
        self.env.flush_all()
        self.assertEqual(self._maintain(), 1)
        self._assert_waits_again(job)
        self.assertFalse(self.direct_queue.paused_until)
        self.assertEqual(self.direct_queue.queue_health, "critical")
        self._switch_off()
        self.direct_queue.invalidate_recordset()
        self.assertEqual(self.direct_queue.queue_health, "healthy")

    def test_switched_off_what_waits_moves_to_the_threads(self):
        job, record = self._handed_over()
        self._switch_off()
        self.executor = self._engine()._executor(self.threads)
        self.assertEqual(self._maintain(), 1)
        self.assertRecordValues(job, [{"state": "queued", "retry_count": 0, "is_scheduled": False}])
        self.assertEqual(record.state, "cancelled")

    def test_of_a_queue_that_goes_back_to_the_threads_what_waits_moves(self):
        job, record = self._handed_over()
        self.direct_queue.executor = "runner"  # the other one stays
        self.executor = self._engine()._executor(self.threads)
        self.assertEqual(self._maintain(), 1)
        self.assertEqual((job.state, record.state), ("queued", "cancelled"))

    def test_a_runner_that_ends_gives_back_what_waits_and_leaves_what_runs(self):
        begun, _record, _worker = self._begun()
        waiting, record = self._handed_over()
        self.executor.leave(self.runner.id, 0.0, None)
        self._engine()._unregister_runner(self.runner.id)
        self._rescue()
        self.assertEqual((begun.state, begun.retry_count), ("running", 0))
        self.assertEqual((waiting.state, waiting.retry_count), ("queued", 0))
        self.assertEqual(record.state, "cancelled")
        self.assertTrue(self.threads.has_left)

    def test_a_runner_that_dies_costs_what_waits_no_retry_and_what_runs_nothing(self):
        begun, _record, _worker = self._begun()
        waiting, record = self._handed_over()
        self._silence(self.runner)
        self.assertEqual(self._rescue(), 1)
        self.assertEqual((begun.state, begun.retry_count), ("running", 0))
        self.assertEqual((waiting.state, waiting.retry_count), ("queued", 0))
        self.assertIn("Superseded", self._work(record))
        self.assertFalse(self.service.calls["chat"])

    def test_what_waits_is_given_back_when_the_addon_goes(self):
        begun, _record, _worker = self._begun()
        waiting, _record = self._handed_over()
        self.env["llm.generation.delegation"]._give_back_unbegun()
        self.env.invalidate_all()
        self.assertEqual((begun.state, waiting.state), ("running", "queued"))

    # === BEGUN === #

    def test_a_worker_that_dies_is_told_with_its_record_and_counts_a_retry(self):
        job, record, worker = self._begun()
        self._silence(worker)
        with self.assertLogs(LIFE, "WARNING"):
            self.assertEqual(self._rescue(), 1)
        self.assertRecordValues(
            job, [{"state": "queued", "retry_count": 1, "error_type": "worker_died"}]
        )
        self.assertIn(record.uuid, job.attempt_ids.error_message)
        # The job runner of queue_job finds its record dead, and starts it once more.
        record.state = "pending"
        self.env.flush_all()
        self.assertIn("Superseded", self._work(record))
        self.assertFalse(self.service.calls["chat"])

    def test_what_a_living_worker_runs_is_nothing_that_the_claimer_lost(self):
        job, record, _worker = self._begun()
        record.unlink()
        self.assertEqual(self._maintain(), 0)
        self.assertEqual(job.state, "running")

    def test_who_saw_the_owner_before_does_not_take_the_job_from_the_worker(self):
        job, _record, _worker = self._begun()
        self._silence(self.runner)
        original = type(self._engine())._select

        def select(engine, statement, params=None):
            rows = original(engine, statement, params)
            return {sql.LOST: [(job.id,)], sql.ORPHANS: [(job.id, False)]}.get(statement, rows)

        with self._offered("llm.generation.engine", _select=select):
            self.assertEqual(self._maintain(), 0)
            self.assertEqual(self._rescue(), 0)
        self.assertFalse(self.runner.exists())
        self.assertRecordValues(job, [{"state": "running", "retry_count": 0}])

    # === OUR OWN ENDS === #

    def test_a_job_that_is_cancelled_while_it_waits_withdraws_its_record(self):
        job, record = self._handed_over()
        job.with_user(self.user).action_cancel()
        self.env.invalidate_all()
        self.assertEqual((job.state, record.state), ("cancelled", "cancelled"))

    def test_a_job_that_is_cancelled_while_it_runs_is_not_completed(self):
        job, record = self._handed_over()
        self.service.chunks = [{"content": "Hel"}, job.action_cancel, {"content": "lo"}]
        self._work(record)
        self.assertEqual((job.state, record.state), ("cancelled", "done"))
