from datetime import datetime, timedelta
from types import SimpleNamespace
from unittest.mock import patch

from odoo import fields
from odoo.tests import new_test_user

from ..const import RUNNER_CHANNEL
from ..protocol import ratelimit
from ..runner import runner as runners
from ..runner.messages import SlotFree
from ..runner.notifier import Outbox
from .common import LlmGenerationCommon, user_groups


class TestLlmGenerationEngine(LlmGenerationCommon):
    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.other_user = new_test_user(cls.env, "generation_other", user_groups(cls.env))
        cls.threads = {
            user: cls._create_thread(user=user) for user in (cls.user, cls.other_user, cls.manager)
        }

    def _queued(self, user=None, **values):
        user = user or self.user
        return self._create_job("queued", user=user, thread_id=self.threads[user].id, **values)

    def _claim_many(self, slots=100):
        claims, waits = self._engine()._claim(slots, queue_ids=self.queue.ids)
        jobs = self.env["llm.generation.job"].browse(claim.job_id for claim in claims)
        return jobs, waits.get(self.queue.id)

    def _claim_in_turn(self):
        """Start everything, one by one, and return the jobs in that order."""
        self.queue.max_concurrent_jobs = 100
        jobs = self.env["llm.generation.job"]
        while claimed := self._claim_many(slots=1)[0]:
            jobs += claimed
        return jobs

    # === LIMITS === #

    def test_what_runs_leaves_the_rest_of_the_slots(self):
        jobs = [self._queued() for _job in range(5)]
        self.queue.max_concurrent_jobs = 3
        self.assertEqual(len(self._claim_many(slots=2)[0]), 2)
        self.assertEqual(list(self._claim_many()[0]), [jobs[2]])

    def test_no_more_run_than_the_queue_allows(self):
        self.queue.max_concurrent_jobs = 2
        jobs = self.env["llm.generation.job"].union(*(self._queued() for _job in range(5)))
        self.assertEqual(len(self._claim_many()[0]), 2)
        self.assertEqual(len(self._claim_many()[0]), 0)
        self.assertEqual(sorted(jobs.mapped("state")), ["queued"] * 3 + ["running"] * 2)

    def test_a_freed_slot_is_taken_by_the_next(self):
        self.queue.max_concurrent_jobs = 1
        first, second = self._queued(), self._queued()
        self.assertEqual(self._claim_many()[0], first)
        first.action_complete()
        self.assertEqual(self._claim_many()[0], second)

    def test_what_runs_at_the_provider_takes_a_slot(self):
        self.queue.max_concurrent_jobs = 2
        for _job in range(3):
            self._queued()
        self.assertEqual(self._process_queue(), 2)
        self.assertEqual(len(self.service.calls["create"]), 2)
        self.assertEqual(self._process_queue(), 0)

    def test_a_process_takes_no_more_than_it_has_slots_for(self):
        self.queue.max_concurrent_jobs = 5
        for _job in range(4):
            self._queued()
        self.assertEqual(len(self._claim_many(slots=3)[0]), 3)

    def test_one_queue_does_not_wait_for_another(self):
        self.queue.max_concurrent_jobs = 1
        direct = self._create_job("queued", self.direct_model)
        self._queued()
        self._queued()
        claims, _wait = self._engine()._claim(100, queue_ids=(self.queue | self.direct_queue).ids)
        self.assertEqual(len(claims), 2)
        self.assertEqual(direct.state, "running")

    def test_a_disabled_queue_starts_nothing_and_keeps_what_waits(self):
        running, waiting = self._queued(), self._queued()
        claim = self._claim(running)
        self.queue.action_disable()
        self.assertEqual(self._process_queue(), 0)
        self.assertEqual(waiting.state, "queued")
        self.assertTrue(self._apply(claim, state="completed"))
        self.assertEqual(running.state, "completed")
        self.queue.action_enable()
        self.assertEqual(self._process_queue(), 1)

    def test_a_paused_queue_starts_nothing_until_its_time(self):
        job = self._queued()
        self.queue.paused_until = fields.Datetime.now() + timedelta(minutes=5)
        self.assertIsNone(self._claim_many()[1], "the clock knows when to look again")
        self.assertEqual(self._process_queue(), 0)
        self.queue.paused_until = fields.Datetime.now() - timedelta(minutes=5)
        self.assertEqual(self._process_queue(), 1)
        self.assertEqual(job.state, "running")

    def test_a_provider_in_the_archive_gets_no_work(self):
        job = self._queued()
        self.native.active = False
        self.assertEqual(self._process_queue(), 0)
        self.assertEqual(job.state, "queued")
        self.native.active = True
        self.assertEqual(self._process_queue(), 1)

    # === ORDER === #

    def test_jobs_of_a_user_run_in_the_order_they_came(self):
        jobs = [self._queued() for _job in range(4)]
        self.assertEqual(list(self._claim_in_turn()), jobs)

    def test_a_lower_priority_goes_first(self):
        late, normal, urgent, other = (self._queued(priority=number) for number in (20, 10, 1, 1))
        self.assertEqual(list(self._claim_in_turn()), [urgent, other, normal, late])

    def test_users_take_turns(self):
        mine = [self._queued() for _job in range(3)]
        theirs = [self._queued(self.other_user) for _job in range(2)]
        self.assertEqual(
            list(self._claim_in_turn()), [mine[0], theirs[0], mine[1], theirs[1], mine[2]]
        )

    def test_a_latecomer_waits_for_no_whole_batch(self):
        mine = [self._queued() for _job in range(6)]
        for job in mine[:3]:
            self._claim(job)
            job.action_complete()
        latecomer = self._queued(self.other_user)
        self.assertLessEqual(list(self._claim_in_turn()).index(latecomer), 1)

    def test_nobody_waits_for_ever_behind_who_comes_later(self):
        old = self._queued()
        self._queued()
        last = self._queued()
        self.queue.max_concurrent_jobs = 100
        started = self.env["llm.generation.job"]
        for _round in range(4):
            self._queued(self.other_user)
            started += self._claim_many(slots=1)[0]
            started += self._claim_many(slots=1)[0]
        self.assertIn(old, started)
        self.assertIn(last, started)

    def test_a_retried_job_goes_to_the_end(self):
        failed = self._create_job("failed", thread_id=self.threads[self.user].id)
        waiting = self._queued()
        failed.action_retry()
        self.assertEqual(list(self._claim_in_turn()), [waiting, failed])

    def test_a_job_that_was_given_back_goes_to_the_front(self):
        first, second = self._queued(), self._queued()
        self._claim(first)
        first._set_state("queued")
        self.assertEqual(list(self._claim_in_turn()), [first, second])

    def test_a_manager_puts_a_job_at_the_head(self):
        first, _second, third = (self._queued() for _job in range(3))
        third.with_user(self.manager).action_start()
        self.assertEqual(self._claim_in_turn()[:2], third + first)

    def test_a_user_does_not_jump_the_queue(self):
        theirs = self._queued(self.other_user)
        mine, second = self._queued(), self._queued()
        second.with_user(self.user).action_start()
        self.assertEqual(list(self._claim_in_turn()), [theirs, mine, second])

    def test_a_place_in_the_queue_counts_from_one(self):
        jobs = self._queued() | self._queued(priority=1) | self._queued()
        self.assertEqual(jobs.mapped("queue_position"), [2, 1, 3])
        self.assertEqual(self._create_job().queue_position, 0)

    def test_what_waits_for_its_date_stands_nowhere_in_the_queue(self):
        self._queued()
        later = self._queued(scheduled_at=datetime(2099, 5, 6, 7, 8))
        last = self._queued()
        self.assertEqual((later.queue_position, last.queue_position), (0, 2))
        self.assertRegex(later._status_sentence(), r"^Waiting until .*2099")
        self.assertEqual(last._status_sentence(), "Waiting, position 2 in the queue.")
        later.action_start()
        self.assertEqual(later.queue_position, 1)

    def test_a_claim_takes_no_number_without_a_row(self):
        self.queue.requests_per_minute = 600
        self._queued()
        self._process_queue()
        self.env.cr.execute("SELECT last_value FROM llm_generation_bucket_id_seq")
        before = self.env.cr.fetchone()
        for _job in range(3):
            self._queued()
        self._process_queue()
        self.env.cr.execute("SELECT last_value FROM llm_generation_bucket_id_seq")
        self.assertEqual(self.env.cr.fetchone(), before)

    # === NOT BEFORE === #

    def test_a_scheduled_job_waits_for_its_time(self):
        job = self._queued(scheduled_at=fields.Datetime.now() + timedelta(hours=1))
        self.assertEqual(self._process_queue(), 0)
        job.scheduled_at = fields.Datetime.now() - timedelta(seconds=5)
        self.assertEqual(self._process_queue(), 1)
        self.assertEqual(job.state, "running")

    def test_a_job_scheduled_for_the_past_does_not_wait(self):
        self._queued(scheduled_at=fields.Datetime.now() - timedelta(hours=1))
        self.assertEqual(self._process_queue(), 1)

    def test_a_manager_may_move_a_scheduled_job(self):
        later = fields.Datetime.now() + timedelta(hours=1)
        waiting, held = self._queued(), self._queued(scheduled_at=later)
        waiting.with_user(self.manager).write({"scheduled_at": later})
        held.with_user(self.manager).write({"scheduled_at": False})
        self.assertEqual(self._process_queue(), 1)
        self.assertEqual((waiting.state, held.state), ("queued", "running"))

    def test_starting_a_scheduled_job_skips_its_wait(self):
        job = self._queued(scheduled_at=fields.Datetime.now() + timedelta(hours=1))
        job.with_user(self.user).action_start()
        self.assertEqual(self._process_queue(), 1)

    def test_the_runner_is_told_when_to_look_again(self):
        engine = self._engine()
        self.assertIsNone(engine._next_due())
        self._queued(scheduled_at=fields.Datetime.now() + timedelta(minutes=10))
        self.assertAlmostEqual(engine._next_due(), 600, delta=60)
        self.assertFalse(engine._has_work())
        self._queued()
        self.assertTrue(engine._has_work())

    def test_a_free_slot_is_first_known_to_the_runner_of_this_process(self):
        job, waiting = self._queued(), self._queued()
        self.queue.max_concurrent_jobs = 1
        self._claim(job)
        self.assertFalse(self._claim_many()[0])
        told = []
        runner = SimpleNamespace(wake=told.append, outbox=Outbox())
        with (
            patch.object(runners, "running", return_value=runner),
            patch.object(self.env.cr, "execute", side_effect=self.env.cr.execute) as execute,
        ):
            job.action_complete()
            self.env.cr.postcommit.run()
        said = [call.args[1] for call in execute.call_args_list if len(call.args) > 1]
        self.assertIn([RUNNER_CHANNEL, SlotFree(self.queue.ids).payload], said)
        self.assertEqual(told, [{self.queue.id}])
        self.assertEqual(self._claim_many()[0], waiting)

    # === ALLOWANCE === #

    def test_requests_per_minute_are_not_exceeded(self):
        self.queue.write({"requests_per_minute": 6, "max_concurrent_jobs": 50})
        for _job in range(5):
            self._queued()
        first, wait = self._claim_many()
        self.assertEqual(len(first), int(ratelimit.capacity(6)))
        self.assertTrue(0 < wait <= 11, wait)
        self.assertFalse(self._claim_many()[0])

    def test_the_allowance_comes_back_with_time(self):
        self.queue.write({"requests_per_minute": 120, "max_concurrent_jobs": 50})
        for _job in range(3):
            self._queued()
        self._claim_many()
        bucket = self.env["llm.generation.bucket"].search([("queue_id", "=", self.queue.id)])
        bucket.filled_at -= timedelta(seconds=30)
        self.assertEqual(len(self._claim_many()[0]), 1)

    def test_tokens_per_minute_are_not_exceeded(self):
        self.queue.write({"tokens_per_minute": 60_000, "max_concurrent_jobs": 50})
        for _job in range(10):
            self._queued(generation_inputs={"prompt": "x" * 800})
        started, wait = self._claim_many()
        self.assertTrue(0 < len(started) < 5, len(started))
        self.assertGreater(wait, 0)

    def test_a_job_larger_than_the_allowance_still_starts(self):
        self.queue.write({"tokens_per_minute": 60, "max_concurrent_jobs": 50})
        self._queued(generation_inputs={"prompt": "x" * 8000})
        self._queued()
        self.assertEqual(len(self._claim_many()[0]), 1)
        self.assertFalse(self._claim_many()[0])

    def test_inputs_that_limit_the_answer_limit_the_estimate(self):
        guessed = self._queued(generation_inputs={"prompt": "x"})
        limited = self._queued(generation_inputs={"prompt": "x", "max_tokens": 5})
        self.assertLess(limited.estimated_tokens, 20)
        self.assertGreater(guessed.estimated_tokens, 200)
        for name in ("max_completion_tokens", "max_output_tokens"):
            with self.subTest(name):
                long = self._queued(generation_inputs={"prompt": "x", name: 70_000})
                self.assertGreater(long.estimated_tokens, 70_000)

    def test_what_was_really_used_replaces_the_estimate(self):
        self.queue.write({"tokens_per_minute": 6000, "max_concurrent_jobs": 50})
        job = self._queued(generation_inputs={"prompt": "x" * 4000})
        claim = self._claim(job)
        bucket = self.env["llm.generation.bucket"].search([("queue_id", "=", self.queue.id)])
        before = bucket.token_level
        usage = {"prompt_tokens": 100, "completion_tokens": 20}
        self._apply(claim, state="completed", usage=usage)
        bucket.invalidate_recordset()
        self.assertAlmostEqual(bucket.token_level - before, job.estimated_tokens - 120)

    # === COUNTS === #

    def test_processing_says_how_many_were_started(self):
        queues = self.env["llm.generation.queue"]
        self._queued()
        self._create_job("queued", self.direct_model)
        self.assertEqual(queues._process_provider_queue(self.native.id), 1)
        self.assertEqual(queues._process_provider_queue(self.native), 0)
        self.assertEqual(queues._process_all_queues(), 1)
