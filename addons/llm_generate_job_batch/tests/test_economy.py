from datetime import timedelta

from odoo import fields

from odoo.addons.llm_generate_job.exceptions import TransientError
from odoo.addons.llm_generate_job.runner.messages import EVERYTHING, Due, Queued
from odoo.addons.llm_generate_job.tests.common import LlmGenerationCommon


class TestEconomy(LlmGenerationCommon):
    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.queue.max_concurrent_jobs = 4
        cls.engine = cls._engine()

    def _economy(self, number=1, **values):
        jobs = self.env["llm.generation.job"]
        for _place in range(number):
            jobs += self._create_job("queued", is_economy=True, **values)
        return jobs

    def test_it_waits_while_another_job_does(self):
        job, other = self._economy(), self._create_job("queued")
        self.engine._schedule()
        self.assertTrue(job.is_scheduled)
        self._claim(other)
        self.engine._schedule()
        self.assertFalse(job.is_scheduled)

    def test_it_uses_half_of_the_slots_at_most(self):
        jobs = self._economy(5)
        self.assertEqual(self._process_queue(), 2)
        self.assertEqual(self._process_queue(), 0)
        self.assertEqual(jobs.sorted("fair_rank").mapped("state"), ["running"] * 2 + ["queued"] * 3)
        jobs.filtered(lambda job: job.state == "running")[0].action_complete()
        self.assertEqual(self._process_queue(), 1)

    def test_it_starts_nothing_where_half_of_the_slots_are_used_by_others(self):
        others = self._create_job("running") + self._create_job("running")
        job = self._economy()
        self.assertEqual(self._process_queue(), 0)
        others[0].action_complete()
        self.assertEqual(self._process_queue(), 1)
        self.assertEqual(job.state, "running")

    def test_a_queue_of_one_slot_has_half_of_it(self):
        self.queue.max_concurrent_jobs = 1
        self._economy(2)
        self.assertEqual(self._process_queue(), 1)

    def test_it_starts_nothing_in_a_queue_that_is_off_or_paused(self):
        job = self._economy()
        for values in ({"enabled": False}, {"paused_until": "2999-01-01 00:00:00"}):
            with self.subTest(values):
                self.queue.write({"enabled": True, "paused_until": False, **values})
                self.engine._schedule()
                self.assertTrue(job.is_scheduled)

    def test_a_paused_model_holds_up_no_other(self):
        other = self.native_model.copy({"name": "Other"})
        self._create_job("queued")  # of the paused model, and next in line
        paused = self._economy()
        free = self._economy(thread_id=self._create_thread(other).id)
        self.env["llm.generation.model.pause"].create({
            "queue_id": self.queue.id,
            "model_id": self.native_model.id,
            "paused_until": "2999-01-01 00:00:00",
        })
        self.engine._schedule()
        self.assertEqual((paused.is_scheduled, free.is_scheduled), (True, False))

    def test_at_its_latest_date_it_waits_in_the_line_like_others(self):
        for _job in range(4):
            self._create_job("running")
        job = self._economy(scheduled_at=fields.Datetime.now() + timedelta(hours=2))
        self.engine._schedule()
        self.assertTrue(job.is_scheduled)
        job.scheduled_at = fields.Datetime.now() - timedelta(seconds=1)
        job.is_scheduled = True  # as when the time has just come
        self.engine._schedule()
        self.assertFalse(job.is_scheduled)

    def test_without_a_date_that_is_in_a_day(self):
        job = self._create_job(is_economy=True)
        left = (job.scheduled_at - fields.Datetime.now()).total_seconds()
        self.assertAlmostEqual(left, 24 * 3600, delta=60)
        draft = self._create_job()
        draft.with_user(self.user).write({"is_economy": True})
        self.assertTrue(draft.scheduled_at)

    def test_a_date_that_a_job_has_stays(self):
        tomorrow = fields.Datetime.now() + timedelta(hours=5)
        dated, undated = self._create_job(scheduled_at=tomorrow), self._create_job()
        (dated | undated).write({"is_economy": True})
        self.assertEqual(dated.scheduled_at, tomorrow)
        self.assertAlmostEqual(
            (undated.scheduled_at - fields.Datetime.now()).total_seconds(), 24 * 3600, delta=60
        )
        self.assertEqual((dated | undated).mapped("is_economy"), [True, True])
        dated.write({"is_economy": True, "scheduled_at": tomorrow + timedelta(hours=1)})
        self.assertEqual(dated.scheduled_at, tomorrow + timedelta(hours=1))
        given = self.env["llm.generation.job"].with_context(default_scheduled_at=tomorrow)
        thread = self._create_thread()
        created = given.create({"thread_id": thread.id, "is_economy": True})
        self.assertEqual(created.scheduled_at, tomorrow)

    def test_another_date_takes_the_place_of_the_one_before(self):
        job = self._economy()
        self.engine._schedule()
        self.assertTrue(job.latest_at)
        job.write({"scheduled_at": fields.Datetime.now() + timedelta(hours=1)})
        self.assertFalse(job.latest_at)

    def test_it_says_what_it_waits_for(self):
        job = self._economy()
        self.assertIn("nothing else to do", job._status_sentence())
        job.is_scheduled = False
        self.assertIn("position 1", job._status_sentence())

    def test_the_runner_knows_when_it_is_due(self):
        blocker = self._create_job("queued")
        self._economy()
        self.assertGreater(self.engine._next_due(), 3600)
        blocker.action_cancel()
        self.assertEqual(self.engine._next_due(), 0)
        self.engine._schedule()
        self.assertIsNone(self.engine._next_due())

    def test_the_end_of_any_job_has_it_looked_for(self):
        woken, engine_class = [], type(self._engine())
        first, second = self._create_job("running"), self._create_job("running")
        economy = self._economy()
        for job, messages in ((first, [Due()]), (second, [])):
            woken.clear()
            with self._patched_wake(engine_class, woken):
                job.action_complete()
            self.assertEqual(woken, [Queued(self.queue.ids), *messages])
            economy.is_scheduled = False  # by now it is in the line

    def test_the_end_of_what_only_waited_has_it_looked_for(self):
        woken, waiting = [], self._create_job("queued")
        self._economy()
        with self._patched_wake(type(self._engine()), woken):
            waiting.action_cancel()
        self.assertEqual(woken, [Due()])

    def test_runners_that_have_a_thread_for_it_hear_that_it_may_start(self):
        woken, engine_class = [], type(self.engine)
        self._economy()
        with self._patched_wake(engine_class, woken):
            self.engine._schedule()
            self.engine._schedule()
        self.assertEqual(woken, [EVERYTHING])

    def _patched_wake(self, engine_class, woken):
        def wake(_engine, message=EVERYTHING):
            woken.append(message)

        return self._offered(engine_class._name, _wake=wake)

    def test_a_retry_waits_for_its_time_however_idle_the_queue_is(self):
        self.service.answers["create"] = [TransientError("Oops")]
        job = self._economy(max_retries=1)
        self._process_queue()
        self.assertTrue(job.retry_at)
        job.retry_at = fields.Datetime.now()
        self.engine._retry_due()
        job.write({"scheduled_at": fields.Datetime.now() + timedelta(hours=1)})
        self.assertTrue(job.is_scheduled)
        self.engine._schedule()
        self.assertTrue(job.is_scheduled)

    def test_a_batch_may_be_one_of_economy(self):
        batch = self.env["llm.generation.job"].create_batch(
            ["a", "b"], model=self.native_model, is_economy=True
        )
        self.assertEqual(batch.job_ids.mapped("is_scheduled"), [True, True])
