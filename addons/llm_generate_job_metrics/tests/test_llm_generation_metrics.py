from datetime import timedelta

from odoo import fields
from odoo.tests import tagged

from odoo.addons.llm_generate_job.protocol.answer import Answer
from odoo.addons.llm_generate_job.tests.common import LlmGenerationCommon

from .common import read_metrics


@tagged("post_install", "-at_install")
class TestLlmGenerationMetrics(LlmGenerationCommon):
    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.name = f"Native ({cls.native.id})"
        cls.thread = cls._create_thread()
        cls.env["llm.generation.metrics"]._expose()  # the counters begin here

    def _metrics(self):
        return read_metrics(self.env["llm.generation.metrics"]._expose().decode())

    def _ended(self, state, seconds_ago=60, prompt_tokens=0, completion_tokens=0, **values):
        """Make a job, and have it end a while ago."""
        job = self._create_job(state, thread_id=self.thread.id)
        then = fields.Datetime.now() - timedelta(seconds=seconds_ago)
        job.flush_recordset()
        values = {"completed_at": then, **values}
        columns = ", ".join(f"{name} = %s" for name in values)
        self.env.cr.execute(
            f"UPDATE llm_generation_job SET {columns} WHERE id = %s", [*values.values(), job.id]
        )
        job.attempt_ids.write({
            "ended_at": then,
            "prompt_tokens": prompt_tokens,
            "completion_tokens": completion_tokens,
        })
        self.env.invalidate_all()
        return job

    def _begin(self, seconds_ago):
        """Have the counters begin some time ago."""
        self.env.cr.execute(
            "UPDATE llm_generation_tally_mark SET counted_until = %s",
            [fields.Datetime.now() - timedelta(seconds=seconds_ago)],
        )

    def test_what_waits_and_runs_is_of_now(self):
        self.queue.max_concurrent_jobs = 7
        before = self._metrics()["llm_generation_jobs"]
        self._create_job("running", thread_id=self.thread.id)
        waiting = self._create_job("queued", thread_id=self.thread.id)
        later = fields.Datetime.now() + timedelta(hours=1)
        self._create_job("queued", thread_id=self.thread.id, scheduled_at=later)
        waiting.queued_at = fields.Datetime.now() - timedelta(seconds=90)

        metrics = self._metrics()

        jobs = metrics["llm_generation_jobs"]
        for state in ("running", "waiting", "scheduled"):
            self.assertEqual(jobs[self.name, state] - before[self.name, state], 1, state)
        self.assertAlmostEqual(
            metrics["llm_generation_oldest_wait_seconds"][self.name,], 90, delta=20
        )
        self.assertEqual(metrics["llm_generation_limit_jobs"][self.name,], 7)
        self.assertEqual(metrics["llm_generation_pause_seconds"][self.name,], 0)
        health = metrics["llm_generation_health"]
        self.assertEqual(health[self.name, "healthy"], 1)
        self.assertEqual(health[self.name, "critical"], 0)

    def test_a_pause_is_told_in_seconds(self):
        self.queue.paused_until = fields.Datetime.now() + timedelta(seconds=100)
        metrics = self._metrics()
        left = metrics["llm_generation_pause_seconds"][self.name,]
        self.assertTrue(80 < left <= 100, left)
        self.assertEqual(metrics["llm_generation_health"][self.name, "warning"], 1)

    def test_what_ended_is_counted_once(self):
        self._begin(300)
        self._ended("completed", prompt_tokens=5, completion_tokens=7)
        retried = self._ended("completed", prompt_tokens=1)
        retried.attempt_ids.copy({"number": 2, "outcome": "snoozed", "prompt_tokens": 10})
        self._ended("failed")
        self._ended("cancelled")
        for _turn in range(2):
            metrics = self._metrics()
            jobs = metrics["llm_generation_finished_jobs_total"]
            self.assertEqual(jobs[self.name, "completed"], 2)
            self.assertEqual(jobs[self.name, "failed"], 1)
            self.assertEqual(jobs[self.name, "cancelled"], 1)
            tokens = metrics["llm_generation_tokens_total"]
            self.assertEqual(tokens[self.name, "prompt"], 16, "each try is paid for")
            self.assertEqual(tokens[self.name, "completion"], 7)
            self.assertEqual(
                metrics["llm_generation_attempts_total"][self.name, "completed", ""], 2
            )

    def test_counters_go_on_after_old_jobs_are_removed(self):
        self._begin(300)
        self._ended("completed")
        self._metrics()
        self.env["llm.generation.job"].search([("completed_at", "!=", False)]).unlink()
        self.assertEqual(
            self._metrics()["llm_generation_finished_jobs_total"][self.name, "completed"], 1
        )

    def test_what_is_being_committed_waits_for_the_next_time(self):
        self._begin(300)
        job = self._ended("completed", seconds_ago=2)
        self.assertNotIn("llm_generation_finished_jobs_total", self._metrics())
        self._begin(30)
        self.env.cr.execute(
            "UPDATE llm_generation_job SET completed_at = %s WHERE id = %s",
            [fields.Datetime.now() - timedelta(seconds=20), job.id],
        )
        self.assertEqual(
            self._metrics()["llm_generation_finished_jobs_total"][self.name, "completed"], 1
        )

    def test_durations_fall_into_the_buckets_of_their_length(self):
        self._begin(300)
        for wait, run in ((0.05, 1.5), (0.7, 1.5), (7200, 25)):
            self._ended("completed", queue_duration=wait, duration=run)
        self._ended("cancelled", queue_duration=3, duration=3)

        metrics = self._metrics()

        waits = metrics["llm_generation_wait_seconds_bucket"]
        for bound, count in (("0.1", 1), ("0.5", 1), ("1", 2), ("3600", 2), ("+Inf", 3)):
            self.assertEqual(waits[self.name, bound], count, bound)
        self.assertEqual(metrics["llm_generation_wait_seconds_count"][self.name,], 3)
        self.assertAlmostEqual(metrics["llm_generation_wait_seconds_sum"][self.name,], 7200.75)
        runs = metrics["llm_generation_run_seconds_bucket"]
        for bound, count in (("1", 0), ("2", 2), ("20", 2), ("30", 3), ("+Inf", 3)):
            self.assertEqual(runs[self.name, bound], count, bound)

    def test_a_wait_for_a_rate_limit_is_an_attempt_that_was_given_back(self):
        self._begin(300)
        job = self._create_job("queued", thread_id=self.thread.id)
        answer = Answer("failed", error_type="rate_limited", retry_after=1)
        self._engine()._complete_batch([(self._claim(job), answer)])
        self.env.cr.execute(
            "UPDATE llm_generation_attempt SET ended_at = ended_at - interval '1 minute'"
            " WHERE job_id = %s",
            [job.id],
        )
        attempts = self._metrics()["llm_generation_attempts_total"]
        self.assertEqual(attempts[self.name, "snoozed", "rate_limited"], 1)

    def test_each_process_that_runs_jobs_is_there(self):
        engine = self._engine()
        runner = engine._runner_row("host:42", 64)
        self.env.cr.execute(
            "UPDATE llm_generation_runner SET heartbeat_at = heartbeat_at - interval '50 s'"
            " WHERE id = %s",
            [runner],
        )
        metrics = self._metrics()
        self.assertEqual(metrics["llm_generation_runner_slots"]["host:42",], 64)
        silence = metrics["llm_generation_runner_silence_seconds"]["host:42",]
        self.assertTrue(50 <= silence < 80, silence)

    def test_the_number_of_statements_is_the_same_for_many_queues(self):
        def statements():
            self.env.invalidate_all()
            before = self.env.cr.sql_log_count
            self._metrics()
            return self.env.cr.sql_log_count - before

        first = statements()
        for number in range(5):
            provider, _model = self._create_provider(f"Further {number}", "fakenative")
            self.env["llm.generation.queue"]._get_or_create_queue(provider)
        self.assertLessEqual(statements(), first + 1)
