import contextlib
import re
from datetime import UTC, datetime, timedelta
from unittest.mock import patch

from odoo import fields

from ..exceptions import AuthenticationError
from ..runner.cursor import LazyCursor
from .common import LlmGenerationCommon, posted

STATS = {
    "queue_id",
    "queue_name",
    "provider_id",
    "provider_name",
    "enabled",
    "max_concurrent_jobs",
    "requests_per_minute",
    "tokens_per_minute",
    "health",
    "health_reason",
    "job_counts",
    "performance",
    "last_processed_at",
}


class TestLlmGenerationFigures(LlmGenerationCommon):
    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.thread = cls._create_thread()
        cls.figures = [
            name
            for name, field in cls.env["llm.generation.queue"]._fields.items()
            if field.compute == "_compute_statistics"
        ]

    def _ended(self, state, count=1, *, hours=0.5, wait=0.0, run=0.0):
        """Create jobs that ended some hours ago."""
        return self.env["llm.generation.job"].create([
            {
                "thread_id": self.thread.id,
                "user_id": self.user.id,
                "state": state,
                "completed_at": fields.Datetime.now() - timedelta(hours=hours),
                "queue_duration": wait,
                "duration": run,
            }
            for _job in range(count)
        ])

    def _assert_health(self, health, reason):
        self.queue.invalidate_recordset()
        self.assertEqual(self.queue.queue_health, health)
        self.assertRegex(self.queue.health_reason, reason)

    def _statements(self, function):
        with self._knowing_nothing():
            before = self.env.cr.sql_log_count
            function()
            return self.env.cr.sql_log_count - before

    def test_a_new_queue_has_nothing_to_tell(self):
        self.assertRecordValues(
            self.queue,
            [
                {
                    "current_running_jobs": 0,
                    "queued_jobs_count": 0,
                    "total_jobs_today": 0,
                    "avg_queue_time": 0,
                    "avg_processing_time": 0,
                    "success_rate": 0,
                    "throughput": 0,
                    "last_processed_at": False,
                    "queue_health": "healthy",
                }
            ],
        )

    def test_a_look_of_a_user_is_not_compiled(self):
        """PostgreSQL compiles what it takes for costly: for longer than the look takes."""
        engine, job = self.env["llm.generation.engine"], self._create_job("queued")
        threads = self.thread._as_query()
        for look in (
            lambda: engine._statistics(self.queue),
            lambda: engine._queue_positions(job),
            lambda: engine._waits(job),
            lambda: engine._pace(self.queue),
            lambda: engine._jobs_saying("anything", job._as_query(), threads),
        ):
            with self.subTest(look.__code__.co_names[0]):
                self.env.cr.execute("SET LOCAL jit = on")
                look()
                self.env.cr.execute("SHOW jit")
                self.assertEqual(self.env.cr.fetchone(), ("off",))

    def test_a_look_of_the_engine_holds_no_transaction(self):
        with contextlib.closing(LazyCursor(self.env.registry)) as cr:
            engine = self.env["llm.generation.engine"].with_env(self.env(cr=cr))
            engine._statistics(engine.env["llm.generation.queue"])
            self.assertFalse(cr.in_transaction)

    def test_jobs_for_a_date_wait_too(self):
        self._create_job("queued")
        self._create_job("queued", scheduled_at=fields.Datetime.now() + timedelta(days=1))
        figures = self.env["llm.generation.engine"]._statistics(self.queue)[self.queue.id]
        self.assertEqual((figures["queued"], figures["delayed"]), (2, 1))

    def test_live_jobs_are_counted_by_state(self):
        self._create_job("draft")
        self._create_job("queued")
        self._create_job("queued")
        self._create_job("running")
        self._create_job("queued", self.direct_model)
        self.queue.invalidate_recordset()
        self.assertEqual((self.queue.queued_jobs_count, self.queue.current_running_jobs), (2, 1))
        self.assertTrue(self.queue.last_processed_at)
        self.assertEqual(
            self.queue.get_queue_stats()["job_counts"],
            {"draft": 1, "queued": 2, "running": 1, "completed": 0, "failed": 0, "cancelled": 0},
        )

    def test_the_success_rate_leaves_cancelled_jobs_out(self):
        self._ended("completed", 3)
        self._ended("failed", 1)
        self._ended("cancelled", 6)
        self.queue.invalidate_recordset()
        self.assertEqual(self.queue.success_rate, 75)
        self.assertAlmostEqual(self.queue.throughput, 4 / 24)

    def test_what_ended_more_than_a_day_ago_does_not_count(self):
        self._ended("completed", 1, hours=23, wait=4, run=8)
        self._ended("failed", 5, hours=25, wait=100, run=100)
        self.queue.invalidate_recordset()
        self.assertEqual(self.queue.success_rate, 100)
        self.assertEqual((self.queue.avg_queue_time, self.queue.avg_processing_time), (4, 8))

    def test_each_hour_counts_what_ended_in_it(self):
        for hour in range(25):
            self._ended("completed", hours=hour + 0.1)
            self._ended("failed", hour % 2, hours=hour + 0.9)
        self._ended("cancelled", 3)
        figures = self.env["llm.generation.engine"]._statistics(self.queue)[self.queue.id]
        self.assertEqual(figures["by_hour"], [[1, hour % 2] for hour in reversed(range(24))])
        self.assertEqual((figures["completed"], figures["failed"]), (24, 12))
        self.assertEqual(figures["cancelled"], 3)
        self.assertEqual((figures["hour_completed"], figures["hour_finished"]), (1, 1))

    def test_only_what_ended_lately_tells_that_the_line_moves(self):
        self._ended("completed", 2, hours=9 / 60)
        self._ended("completed", 4, hours=11 / 60)
        figures = self.env["llm.generation.engine"]._statistics(self.queue)[self.queue.id]
        self.assertEqual(figures["ended_lately"], 2)

    def test_the_day_begins_at_midnight_of_who_looks(self):
        # Where it is two o'clock and so many minutes.
        east = (2 - datetime.now(UTC).hour) % 24
        self.env.user.tz = f"Etc/GMT{-east if east <= 14 else 24 - east:+}"
        engine = self.env["llm.generation.engine"].with_context(tz=self.env.user.tz)
        here = fields.Datetime.context_timestamp(engine, fields.Datetime.now())
        hours = (here - here.replace(hour=0, minute=0, second=0)).total_seconds() / 3600
        self._ended("completed", 2, hours=hours + 1 / 60).write({"prompt_tokens": 1000})
        today = self._ended("completed", 3, hours=hours - 1 / 60) | self._ended("cancelled")
        today.write({"prompt_tokens": 20, "completion_tokens": 5})
        figures = engine._statistics(self.queue)[self.queue.id]
        self.assertEqual((figures["today"], figures["tokens_today"]), (4, 100))
        self.assertEqual(figures["completed"], 5)

    def test_averages_are_of_jobs_that_really_waited_and_ran(self):
        self._ended("completed", wait=10, run=20)
        self._ended("failed", wait=30, run=40)
        self._ended("completed", wait=0, run=0)
        self._ended("cancelled", wait=1000, run=1000)
        self.queue.invalidate_recordset()
        self.assertEqual((self.queue.avg_queue_time, self.queue.avg_processing_time), (20, 30))

    def test_each_queue_has_figures_of_its_own(self):
        self._ended("failed", 2)
        self.direct_queue.invalidate_recordset()
        self.assertEqual(self.direct_queue.total_jobs_today, 0)

    def test_the_newest_jobs_are_at_hand(self):
        jobs = self._ended("completed", 12)
        self.assertEqual(self.queue.recent_job_ids.ids, jobs.sorted("id", reverse=True)[:10].ids)

    def test_the_statements_do_not_grow_with_the_queues(self):
        for number in range(4):
            provider, model = self._create_provider(f"More {number}", "fakedirect")
            self._create_job("queued", model)
            self.assertTrue(provider)
        queues = self.env["llm.generation.queue"].search([])
        self.assertGreaterEqual(len(queues), 6)
        self.queue.read(self.figures)  # the time zone of the user is looked up once
        one = self._statements(lambda: self.queue.read(self.figures))
        many = self._statements(lambda: queues.read(self.figures))
        self.assertEqual(many, one)
        engine = self.env["llm.generation.engine"]
        queues.provider_id.read(["active"])
        queues.read(["provider_id"])
        before = self.env.cr.sql_log_count
        engine._statistics(queues)
        self.assertEqual(self.env.cr.sql_log_count - before, 1)

    # === HEALTH === #

    def test_a_queue_is_healthy_while_slots_are_free_and_jobs_succeed(self):
        self._ended("completed", 9)
        self._ended("failed", 1)
        self._assert_health("healthy", "Slots are free")

    def test_a_disabled_queue_is_disabled_whatever_else(self):
        self._ended("failed", 10)
        self.queue.enabled = False
        self._assert_health("disabled", "^Paused by an administrator")

    def test_busy_slots_are_a_warning(self):
        self.queue.max_concurrent_jobs = 1
        self._create_job("running")
        self._assert_health("warning", r"^Every slot is busy \(1\)\.$")

    def _line(self, *minutes):
        """Fill the only slot, and let jobs wait since so many minutes."""
        self.queue.max_concurrent_jobs = 1
        self._create_job("running").env.flush_all()
        for ago in minutes:
            self._create_job("queued").queued_at -= timedelta(minutes=ago)
        now = fields.Datetime.now()
        runner = {"name": "test", "slots": 1, "started_at": now, "heartbeat_at": now}
        self.env["llm.generation.runner"].sudo().create(runner)
        self._nothing_changed_for(hours=1)

    def _nothing_changed_for(self, **delta):
        """Have the queue claimed nothing, and been left alone, for so long."""
        self.env.flush_all()
        then = fields.Datetime.now() - timedelta(**delta)
        self.env.cr.execute(
            "UPDATE llm_generation_bucket SET processed_at = %s WHERE queue_id = %s;"
            "UPDATE llm_generation_queue SET write_date = %s WHERE id = %s",
            [then, self.queue.id, then, self.queue.id],
        )
        self.env.invalidate_all()

    def test_a_backlog_that_moves_is_a_warning(self):
        self._line(*[5] * 9)
        self._assert_health("warning", r"^Every slot is busy \(1\) and 9 jobs wait\.$")

    def test_a_long_backlog_that_shrinks_is_a_warning(self):
        self._line(*[30] * 4, 5)
        self._ended("completed", 3, hours=0.1)
        self._assert_health("warning", "Every slot is busy")

    def test_a_backlog_that_does_not_move_is_critical(self):
        self._line(20, 30, 45)
        reason = r"^3 jobs wait, and none starts\. Since .+\. Look at what runs, and cancel"
        self._assert_health("critical", reason)
        self._nothing_changed_for(minutes=5)
        self._assert_health("warning", "Every slot is busy")
        self._nothing_changed_for(hours=1)
        self._ended("completed", hours=2, run=3600)  # each takes an hour here
        self._assert_health("warning", "Every slot is busy")

    def test_a_queue_that_was_just_let_go_on_has_time_to_move(self):
        self._line(30)
        self._assert_health("critical", "none starts")
        self.queue.action_process_queue()
        self._assert_health("warning", "Every slot is busy")

    def test_a_backlog_that_grows_for_ten_minutes_is_critical(self):
        self._line(30, *[2] * 5)
        self._ended("completed", 3, hours=0.1)
        self._assert_health(
            "critical",
            "^6 jobs wait, and more come than end: 5 in ten minutes, while 3 ended. Since .+"
            " Raise the limit of jobs",
        )
        self._ended("failed", hours=0.1)
        self._assert_health("warning", "Every slot is busy")

    def test_a_long_line_before_free_slots_is_none(self):
        for _job in range(20):
            self._create_job("queued")
        self._assert_health("healthy", ".")

    def test_many_failures_are_critical(self):
        self._ended("failed", 3)
        self._ended("completed", 2)
        self._assert_health(
            "critical",
            r"^3 of the last hour's 5 jobs failed\. Since .+\. Open the failed jobs, and retry",
        )
        self._create_job("running").action_fail("HTTP 500: it is broken.")
        self._assert_health("critical", "The newest error says: “HTTP 500: it is broken”")

    def test_some_failures_are_a_warning(self):
        self._ended("failed", 1)
        self._ended("completed", 8)
        self._assert_health("warning", "1 of the last hour's 9 jobs failed")

    def test_a_few_jobs_prove_nothing(self):
        self._ended("failed", 4)
        self._assert_health("healthy", ".")

    def test_failures_of_an_hour_ago_are_forgotten(self):
        self._ended("failed", 10, hours=2)
        self._assert_health("healthy", ".")

    def test_half_is_enough_not_to_be_critical(self):
        self._ended("failed", 3)
        self._ended("completed", 3)
        self._assert_health("warning", "3 of the last hour's 6 jobs failed")

    def test_a_pause_is_a_warning(self):
        self.queue.paused_until = fields.Datetime.now() + timedelta(minutes=1)
        self._assert_health("warning", "Calls pause")
        self.queue.paused_until = fields.Datetime.now() - timedelta(minutes=1)
        self._assert_health("healthy", ".")

    def test_a_refusal_is_critical(self):
        for refusal, what in {
            "quota": "no credit left.*Jobs are kept. Top it up",
            "authentication": "rejects the API key.*Jobs are kept. Correct the key",
        }.items():
            self.queue.refused_by = refusal
            self._assert_health("critical", what)

    def test_a_refusal_has_its_time_and_the_words_of_the_provider(self):
        job = self._create_job("queued")
        self.service.answers["create"] = [
            AuthenticationError(f"Incorrect API key. {number}") for number in range(2)
        ]
        self._process_queue()
        since = self.queue.stopped_since
        self.assertAlmostEqual(since, fields.Datetime.now(), delta=timedelta(seconds=60))
        at = re.escape(self._engine()._clock_time(since))
        self._assert_health("critical", rf"Since {at}\. .*“Incorrect API key\. 0”")
        self.queue.sudo().stopped_since = since - timedelta(hours=1)
        self.queue.paused_until = False
        job.sudo().write({"is_scheduled": False, "scheduled_at": False})
        self._process_queue()
        self.assertEqual(self.queue.stopped_since, since - timedelta(hours=1))
        self.assertIn("“Incorrect API key. 1”", self.queue.health_reason)
        self.service.answers["create"] = ["ext-1"]
        self.service.answers["check"] = [posted("Hi")]
        self.queue.action_process_queue()
        self.assertFalse(self.queue.stopped_since or self.queue.stopped_words)

    def test_an_answer_ends_a_refusal_and_what_is_told_of_it(self):
        self.queue.write({
            "refused_by": "quota",
            "stopped_since": fields.Datetime.now(),
            "stopped_words": "No credit.",
        })
        claim = self._claim(self._create_job("queued"))
        self._apply(claim, state="completed")
        self.assertRecordValues(
            self.queue, [{"refused_by": False, "stopped_since": False, "stopped_words": False}]
        )

    def test_what_a_provider_says_of_a_model_is_told(self):
        self._create_job("queued")
        self.service.answers["create"] = [AuthenticationError("Not for you.", scope="model")]
        self._process_queue()
        self._assert_health(
            "warning",
            "^The provider refuses the model Native model. Since .+ The newest error says: “Not for"
            " you”. Check what the API key may use",
        )
        self.env["llm.generation.model.pause"].search([]).refused_by = False
        self._assert_health("warning", "^Calls of Native model pause, and go on by themselves")

    def test_a_key_is_in_no_words(self):
        self._create_job("queued")
        self.service.answers["create"] = [AuthenticationError(f"Wrong: sk-{'a1B2' * 8}")]
        self._process_queue()
        self.assertTrue(self.queue.stopped_words)
        self.assertNotIn("a1B2", self.queue.stopped_words)

    def test_who_pauses_a_queue_is_told_since_when(self):
        self.queue.with_user(self.manager).action_disable()
        at = re.escape(self._engine()._clock_time(self.queue.stopped_since))
        self._assert_health("disabled", rf"^Paused by an administrator.*Since {at}\. Press Resume")
        self.queue.with_user(self.manager).action_enable()
        self.assertFalse(self.queue.stopped_since)

    def test_a_queue_that_never_ran_says_so(self):
        self._assert_health("healthy", "^Ready. Nothing has run yet.$")
        self._ended("completed", hours=30)
        self.env["llm.generation.bucket"].create({
            "queue_id": self.queue.id,
            "processed_at": fields.Datetime.now(),
        })
        self._assert_health("healthy", "^Ready. Nothing has ended in the last 24 hours.$")
        self._ended("completed")
        self._assert_health("healthy", "^Slots are free and jobs succeed.$")

    def test_what_health_is_about_can_be_opened(self):
        failed = self._create_job("failed")
        action = self.queue.with_user(self.manager).action_open_trouble()
        self.assertEqual(action["context"], {"search_default_failed": 1})
        self.assertEqual(self.env["llm.generation.job"].search(action["domain"]), failed)
        self.queue.refused_by = "quota"
        action = self.queue.with_user(self.manager).action_open_trouble()
        self.assertEqual((action["res_model"], action["res_id"]), ("llm.provider", self.native.id))

    def test_what_waits_for_its_date_is_no_line_before_busy_slots(self):
        self.queue.max_concurrent_jobs = 1
        self._create_job("running")
        tomorrow = fields.Datetime.now() + timedelta(days=1)
        for _job in range(4):
            self._create_job("queued", scheduled_at=tomorrow)
        self._assert_health("warning", r"Every slot is busy \(1\)\.$")
        for _job in range(3):
            self._create_job("queued")
        self._assert_health("warning", "3 jobs wait")
        self.assertEqual(self.queue.queued_jobs_count, 7)

    def _create_runner(self, **values):
        now = fields.Datetime.now()
        values |= {"name": "test", "slots": 1, "started_at": now, "heartbeat_at": now}
        return self.env["llm.generation.runner"].sudo().create(values)

    def test_jobs_that_no_server_runs_are_critical(self):
        job = self._create_job("queued")
        runners = self.env["llm.generation.runner"].sudo()
        runners.search([]).unlink()
        self._assert_health("healthy", "Ready")
        job.queued_at -= timedelta(minutes=3)
        self._assert_health("critical", "no server runs them.*max_cron_threads")
        self.queue.paused_until = fields.Datetime.now() + timedelta(hours=1)
        self._assert_health("warning", "Calls pause")
        self.queue.paused_until = False
        runner = self._create_runner()
        self._assert_health("healthy", "Ready")
        runner.heartbeat_at -= timedelta(minutes=3)
        self._assert_health("critical", "no server runs them")
        job.write({"is_scheduled": True})
        self._assert_health("healthy", "Ready")

    def test_a_scheduled_action_that_is_gone_is_told_and_keeps_nobody_from_asking(self):
        self.env["llm.generation.runner"].sudo().search([]).unlink()
        job = self._create_job("queued")
        job.queued_at -= timedelta(minutes=3)
        pump = self.env.ref("llm_generate_job.ir_cron_process_queues")
        for gone in (pump.action_archive, pump.unlink):
            with self.subTest(gone.__name__):
                gone()
                self._assert_health("critical", "process queues” is archived or deleted")
                draft = self._create_job("draft")
                draft.action_queue()
                self.assertEqual(draft.state, "queued")

    def test_code_that_waits_for_its_upgrade_is_critical(self):
        self.env["llm.generation.runner"].sudo().search([]).unlink()
        module = self.env["ir.module.module"].search([("name", "=", "llm_generate_job")])
        module.latest_version = "19.0.0.9.0"
        told = r"Nothing starts: .* newer than the database.*-u llm_generate_job\."
        self._assert_health("critical", told)
        # An older server goes on meanwhile.
        self._create_runner()
        self._assert_health("healthy", "Ready")

    def test_words_of_an_error_are_for_managers_of_its_company(self):
        shared = not self.native._fields["company_id"].required
        self._needs(shared, "whose providers all companies can share")
        self.native.company_id = False
        for _job in range(6):
            job = self._create_job("queued")
            job.action_fail("Refused: my secret plan")
        self.assertIn("secret plan", self.queue.with_user(self.manager).health_reason)
        told = self.queue.with_user(self.user).health_reason
        self.assertIn("6 of the last hour's 6 jobs failed", told)
        self.assertNotIn("secret plan", told)
        elsewhere = self.env["res.company"].create({"name": "Elsewhere"})
        self.manager.write({"company_id": elsewhere.id, "company_ids": [(6, 0, elsewhere.ids)]})
        told = self.queue.with_user(self.manager).health_reason
        self.assertNotIn("secret plan", told)

    def test_a_server_that_hears_nothing_is_told_of(self):
        runner = self._create_runner(is_deaf=True)
        self._assert_health("warning", "does not reach a server.*10 seconds late.*by session")
        runner.heartbeat_at -= timedelta(minutes=3)
        self._assert_health("healthy", "Ready")

    # === STATS === #

    def test_counts_are_whole_numbers(self):
        before = self.queue.get_queue_stats()
        self._ended("completed", 2, wait=2, run=3)
        self._ended("failed")
        self._ended("cancelled")
        self._create_job("running")
        for stats in (before, self.queue.get_queue_stats()):
            counts = [*stats["job_counts"].values(), stats["performance"]["total_jobs_today"]]
            self.assertEqual({type(count) for count in counts}, {int})
        self.assertEqual(stats["job_counts"]["completed"], 2)

    def test_the_stats_of_a_queue_tell_all_there_is(self):
        self._ended("completed", wait=2, run=3)
        stats = self.queue.get_queue_stats()
        self.assertEqual(stats.keys(), STATS)
        self.assertEqual((stats["queue_id"], stats["provider_name"]), (self.queue.id, "Native"))
        self.assertEqual((stats["health"], stats["enabled"]), ("healthy", True))
        self.assertEqual(stats["job_counts"]["completed"], 1)
        performance = stats["performance"]
        self.assertEqual(
            (performance["avg_queue_time"], performance["avg_processing_time"]), (2, 3)
        )
        self.assertEqual(performance["success_rate"], 100)

    def test_the_stats_compute_their_figures_once(self):
        Figures = type(self.env["llm.generation.engine"])
        with self._counted(Figures, "_statistics") as calls:
            (self.queue | self.direct_queue).get_queue_stats()
        self.assertEqual(len(calls), 1)

    @contextlib.contextmanager
    def _counted(self, model, name):
        """Yield a list that has an entry for each call of a method."""
        calls, method = [], getattr(model, name)

        def counted(records, *args):
            calls.append(args)
            return method(records, *args)

        with patch.object(model, name, counted):
            yield calls

    def test_the_stats_of_many_queues_come_in_a_list(self):
        stats = (self.queue | self.direct_queue).get_queue_stats()
        self.assertEqual([stat["queue_id"] for stat in stats], (self.queue | self.direct_queue).ids)
