from datetime import timedelta
from unittest.mock import patch

from odoo import fields
from odoo.exceptions import AccessError, UserError
from odoo.modules.neutralize import get_neutralization_queries

from odoo.addons.llm_generate_job.exceptions import (
    AuthenticationError,
    BadRequestError,
    OverloadedError,
    TransientError,
)
from odoo.addons.llm_generate_job.runner.cursor import READ_RE
from odoo.addons.llm_generate_job.runner.limits import ERRANDS

from .. import statements, uninstall_hook
from ..models import provider_batches
from .batch_common import ProviderBatchCommon


class TestEnds(ProviderBatchCommon):
    def test_one_early_date_takes_nothing_from_the_others(self):
        jobs, batch = self._submitted(3)
        jobs[1].write({"scheduled_at": self._ago(1), "is_scheduled": True})

        self._go_on(batch)
        self.engine._schedule()
        self.assertEqual(self._process_queue(), 1)

        self.assertFalse(self.remote.batches["batch-1"]["is_cancelled"])
        self.assertEqual(jobs.mapped("state"), ["queued", "running", "queued"])
        self._ended(batch)
        self.assertEqual(jobs.mapped("state"), ["completed", "running", "completed"])
        self.assertFalse(self._answers_of(jobs[1]))
        self.assertEqual((batch.completed_count, batch.late_count), (2, 1))
        self.assertEqual(batch.prompt_tokens, 21, "the provider's bill has it, too")

    def test_the_date_of_most_does_not_move_on_as_jobs_leave(self):
        jobs, batch = self._submitted(3)
        now = fields.Datetime.now()
        for job, hours in zip(jobs, (3, 4, 9), strict=True):
            job.scheduled_at = now + timedelta(hours=hours)
        self._go_on(batch)
        self.assertEqual(batch.deadline, now + timedelta(hours=4))
        jobs[:2].write({"scheduled_at": self._ago(1)})
        self._go_on(batch)
        self.assertEqual(batch.deadline, now + timedelta(hours=4))

    def test_who_runs_by_itself_hurries_no_batch_that_others_wait_for(self):
        jobs, batch = self._submitted(3)
        jobs[0].action_start()
        jobs[1].action_start()
        self._process_queue()
        later = batch.next_step_at = fields.Datetime.now() + timedelta(seconds=99)
        jobs[0].action_complete()
        self.assertEqual(batch.next_step_at, later)
        jobs[2].action_cancel()
        self.assertLess(batch.next_step_at, later, "nobody waits for it any more")

    def test_one_in_line_leaves_a_batch_that_fails(self):
        jobs, batch = self._submitted()
        jobs[0].action_start()
        self.remote.told = {"state": "failed", "error_type": "rate_limited"}
        self._go_on(batch)
        self.assertEqual(batch.state, "failed")
        self.assertFalse(jobs.provider_batch_id)
        self.assertEqual(jobs.mapped("batch_lane"), [False, True], "one gathers again")

    def test_when_most_of_its_dates_are_near_the_rest_is_cancelled(self):
        jobs, batch = self._submitted(3)
        self.assertEqual(batch.deadline, jobs[1].scheduled_at)
        jobs[1].scheduled_at = fields.Datetime.now() + timedelta(minutes=14)
        self._go_on(batch)
        self.assertNotIn("cancel", self.remote.calls)
        self.assertGreater(batch.deadline, jobs[1].scheduled_at)
        jobs[0].scheduled_at = fields.Datetime.now() + timedelta(minutes=13)
        self._go_on(batch)
        self.assertTrue(self.remote.batches["batch-1"]["is_cancelled"])
        self.assertEqual(batch.state, "running")
        self.remote.outcomes = {0: {"state": "cancelled"}, 1: {"state": "cancelled"}}
        self._ended(batch)
        self.assertEqual(jobs.mapped("state"), ["queued", "queued", "completed"])
        self.assertEqual(self._process_queue(), 2)

    def test_what_could_be_late_by_its_submission_is_not_asked_in_it(self):
        self.queue.batch_jobs = 3
        jobs = self._economy(3)
        batch = self._collect()
        self.queue.enabled = False
        jobs[0].scheduled_at = fields.Datetime.now() + timedelta(minutes=119)
        self._go_on(batch)
        self.assertEqual((batch.state, batch.job_ids), ("collected", jobs[1:]), "while it waits")
        self.queue.enabled = True
        jobs[1].scheduled_at = fields.Datetime.now() + timedelta(minutes=119)

        self._go_on(batch)

        self.assertEqual((batch.state, batch.job_ids, batch.job_count), ("running", jobs[2], 1))
        self.assertEqual(jobs.mapped("batch_lane"), [False, False, True])

    def test_one_that_never_ends_makes_no_job_late(self):
        jobs, batch = self._submitted()
        jobs[0].scheduled_at = self._ago(1)
        jobs[0].is_scheduled = True  # as when the time has just come
        self._go_on(batch)
        self.engine._schedule()
        self.assertEqual(self._process_queue(), 1)
        self.assertEqual(jobs.mapped("state"), ["running", "queued"])
        batch.submitted_at = self._ago(49 * 3600)
        self._go_on(batch)
        self.assertEqual((batch.state, batch.error_type), ("failed", "timeout"))
        self.assertFalse(jobs[1].batch_lane)

    def test_one_that_was_not_submitted_is_dropped_before_its_date(self):
        self.remote.raises["submit"] = [TransientError("Oops.")]
        jobs = self._economy()
        batch = self._collect()
        self._go_on(batch)
        jobs.scheduled_at = fields.Datetime.now() + timedelta(minutes=10)
        self._go_on(batch)
        self.assertEqual((batch.state, len(self.remote.batches)), ("cancelled", 0))
        self.assertFalse(any(jobs.mapped("batch_lane")))

    def test_one_that_nobody_wants_any_more_is_cancelled(self):
        jobs, batch = self._submitted()
        later = batch.next_step_at
        jobs[0].action_cancel()
        self.assertEqual(batch.next_step_at, later)
        self._go_on(batch)
        self.assertNotIn("cancel", self.remote.calls)
        jobs[1].action_cancel()
        self.assertLess(batch.next_step_at, later, "it is looked at now")
        self._go_on(batch)
        self.assertTrue(self.remote.batches["batch-1"]["is_cancelled"])

    def test_a_provider_that_does_not_cancel_is_asked_all_the_same(self):
        jobs, batch = self._submitted()
        self.remote.raises["cancel"] = [BadRequestError("It has ended.")]
        jobs.action_cancel()
        self._ended(batch)
        self.assertEqual((batch.state, batch.late_count), ("done", 2))

    def test_a_manager_gives_it_up(self):
        jobs, batch = self._submitted()
        with self.assertRaises(AccessError):
            batch.with_user(self.user).action_cancel()
        batch.with_user(self.manager).action_cancel()
        self._go_on(batch)
        self.assertTrue(self.remote.batches["batch-1"]["is_cancelled"])
        self.remote.outcomes = {0: {"state": "cancelled"}, 1: {"state": "cancelled"}}
        self._ended(batch)
        self.assertEqual(jobs.mapped("state"), ["queued"] * 2)
        with self.assertRaisesRegex(UserError, "has ended"):
            batch.with_user(self.manager).action_cancel()

    def test_its_end_is_foreseen_from_what_is_done(self):
        _jobs, batch = self._submitted(4)
        self.assertFalse(batch.expected_end)
        batch.submitted_at = self._ago(600)
        self._go_on(batch)
        left = (batch.expected_end - fields.Datetime.now()).total_seconds()
        self.assertAlmostEqual(left, 1800, delta=20)
        self._ended(batch)
        self.assertFalse(batch.expected_end)

    def test_one_that_was_not_submitted_is_dropped_with_the_switch(self):
        jobs = self._economy()
        batch = self._collect()
        self.queue.uses_batches = False
        self._go_on(batch)
        self.assertEqual((batch.state, len(self.remote.batches)), ("cancelled", 0))
        self.assertFalse(any(jobs.mapped("batch_lane")))

    def test_a_closed_queue_lets_it_end(self):
        jobs, batch = self._submitted()
        self.queue.enabled = False
        self._ended(batch)
        self.assertEqual(jobs.mapped("state"), ["completed"] * 2)

    def test_without_room_its_jobs_gather_again(self):
        jobs, batch = self._submitted()
        self.remote.state = "failed"
        self.remote.told = {"error_type": "rate_limited", "error_message": "Too many tokens."}
        self._go_on(batch)
        self.assertEqual((batch.state, batch.error_message), ("failed", "Too many tokens."))
        self.assertTrue(all(jobs.mapped("batch_lane")))
        self.assertFalse(self._collect())
        self.queue.action_process_queue()
        self.assertEqual((self._batches() - batch).job_ids, jobs)

    def test_one_that_cannot_be_asked_about_goes_on(self):
        jobs, batch = self._submitted()
        for error in (
            OverloadedError("Later."),
            BadRequestError("A proxy knows no such page."),
            AuthenticationError("Not now."),
        ):
            self.remote.raises["check"] = [error]
            self._go_on(batch)
            self.assertEqual((batch.state, batch.error_type), ("running", error.error_type))
        self._ended(batch)
        self.assertEqual((batch.state, set(jobs.mapped("state"))), ("done", {"completed"}))

    def test_one_that_is_given_up_is_cancelled_there(self):
        jobs, batch = self._submitted()
        batch.submitted_at = self._ago(49 * 3600)
        self.remote.raises["check"] = [BadRequestError("No such page.")]
        self._go_on(batch)
        self.assertEqual(batch.state, "failed")
        self.assertTrue(self.remote.batches[batch.external_id]["is_cancelled"])
        self.assertFalse(any(jobs.mapped("batch_lane")))

    def test_a_copy_leaves_it_to_the_original(self):
        jobs, batch = self._submitted()
        with self.assertLogs("odoo.addons.llm_generate_job.engine.liveness", "WARNING"):
            self.engine._hold_queues()
        self.assertEqual(batch.state, "failed")
        self.assertFalse(batch.next_step_at or self.queue.enabled)
        self._go_on(batch)
        self.assertEqual(self.remote.calls.count("check"), 0)
        self.assertFalse(self.remote.batches["batch-1"]["is_cancelled"])
        self.assertFalse(any(jobs.mapped("batch_lane")))

    def test_old_ones_are_removed_when_their_jobs_are(self):
        jobs, batch = self._submitted()
        self._ended(batch)
        batch.ended_at = self._ago(9 * 86400)
        self.engine._clean_up(7)
        self.assertTrue(batch.exists())
        jobs.unlink()
        self.engine._clean_up(7)
        self.assertFalse(batch.exists())

    def test_it_is_asked_seldom_and_in_time(self):
        _jobs, batch = self._submitted()
        for age, wanted in ((60, 60), (3600, 180), (20 * 3600, 300)):
            batch.submitted_at = self._ago(age)
            self._go_on(batch)
            wait = (batch.next_step_at - fields.Datetime.now()).total_seconds()
            self.assertAlmostEqual(wait, wanted, delta=3)
        self.assertEqual((batch.done_count, batch.progress), (1, 50.0))
        self.assertLessEqual(self.engine._next_due(), 300)

    def test_a_step_is_one_process_s_for_a_while(self):
        _jobs, batch = self._submitted()
        batch.next_step_at = self._ago(1)
        self.assertEqual(len(self.engine._claim_errands(9)), 1)
        self.assertEqual(self.engine._claim_errands(9), [])
        batch.leased_until = self._ago(1)
        self.assertEqual(len(self.engine._claim_errands(9)), 1)

    def test_a_look_at_what_is_due_holds_no_transaction(self):
        reads = (statements.NEXT_STEP, statements.ANY_LEAVES, statements.GATHERED)
        for statement in (*reads, statements.WAITING_IN, statements.UNWANTED, statements.ANY_IDLE):
            self.assertRegex(statement, READ_RE)

    def test_a_thread_that_deletes_a_batch_at_its_provider_counts_among_them(self):
        _jobs, batch = self._submitted()
        slow = batch.create([
            {"provider_id": self.native.id, "model_id": self.native_model.id, "state": "running"}
            for _number in range(2)
        ])
        counted = []

        def forget(_provider, _batch):
            slow.write({"next_step_at": self._ago(1)})
            counted.extend(self.engine._claim_errands(ERRANDS))

        with patch.object(type(self.native), "forget_generation_batch", forget):
            self._ended(batch)

        self.assertEqual(len(counted), ERRANDS // 2 - 1)
        self.assertFalse(batch.leased_until)

    def test_an_uninstallation_cancels_what_providers_have_for_a_minute_at_most(self):
        (_jobs, first), (_others, second) = self._submitted(), self._submitted()
        self.remote.raises = {"cancel": [TransientError("Oops.")]}
        self._engine()._cancel_all_batches()
        given_up = [told["is_cancelled"] for told in self.remote.batches.values()]
        self.assertEqual((len(given_up), sum(given_up)), (2, 1), "one refuses, the other does not")
        batches = self.remote.batches
        batches[first.external_id]["is_cancelled"] = batches[second.external_id]["is_cancelled"] = 0
        with (
            patch.object(provider_batches, "UNINSTALL_SECONDS", -1),
            self.assertLogs(provider_batches._logger, "WARNING") as logged,
        ):
            uninstall_hook(self.env)
        self.assertIn(f"{first.external_id} of", "".join(logged.output))
        self.assertFalse(any(told["is_cancelled"] for told in batches.values()))

    def test_one_provider_has_half_of_the_threads(self):
        _jobs, batch = self._submitted()
        slow = batch | batch.create([
            {"provider_id": self.native.id, "model_id": self.native_model.id}
            for _number in range(2)
        ])
        other = batch.create({"provider_id": self.direct.id, "model_id": self.direct_model.id})
        (slow | other).write({"state": "running", "next_step_at": self._ago(9)})
        other.next_step_at = self._ago(1)

        claimed = self.engine._claim_errands(ERRANDS)

        taken = batch.browse(batch_id for _method, batch_id, *_step in claimed)
        self.assertEqual((len(taken), len(taken & slow), taken & other), (3, 2, other))
        self.assertEqual(self.engine._claim_errands(1), [])
        self.assertGreater(self.engine._next_due(), 60, "nobody looks for it again and again")
        (taken & slow)[0].write({"leased_until": False, "next_step_at": False})
        self.assertEqual(self.engine._next_due(), 0)
        [(_method, batch_id, *_step)] = self.engine._claim_errands(1)
        self.assertEqual(slow - taken, batch.browse(batch_id))


class TestWhatElseHappens(ProviderBatchCommon):
    """Limits and budgets, and what people do, while a batch has jobs."""

    def test_conversations_that_are_cancelled_or_deleted_take_their_jobs_along(self):
        jobs, batch = self._submitted(3)
        cancelled, deleted, waiting = jobs
        cancelled.thread_id.with_user(self.user).action_cancel_generation()
        deleted.thread_id.unlink()
        self.assertFalse(deleted.exists())

        self._ended(batch)

        self.assertEqual((cancelled.state, waiting.state), ("cancelled", "completed"))
        self.assertFalse(self._answers_of(cancelled))
        self.assertEqual((batch.completed_count, batch.late_count), (1, 2))

    def test_a_neutralized_copy_leaves_alone_what_the_original_has_there(self):
        jobs, batch = self._submitted()
        self.env.flush_all()
        for query in get_neutralization_queries(["llm_generate_job_batch"]):
            self.env.cr.execute(query)
        self.env.invalidate_all()
        self.assertEqual((batch.state, batch.next_step_at), ("failed", False))
        self.assertFalse(jobs.provider_batch_id)
        self.assertEqual(self._engine()._claim_errands(10), [])

    def test_conversations_that_are_all_gone_have_it_cancelled(self):
        jobs, batch = self._submitted()
        jobs.thread_id.unlink()
        self._go_on(batch)
        self.assertTrue(self.remote.batches["batch-1"]["is_cancelled"])

    def test_of_a_provider_that_is_switched_off_only_what_it_has_is_stored(self):
        jobs, batch = self._submitted()
        gathering, late = self._economy(1), self._economy(2)
        self.native.active = False
        self.assertFalse(self._collect())
        self.native.active = True
        other = self._collect()
        self.native.active = False
        self._go_on(other)
        self.assertEqual((other.state, other.tries), ("collected", 0))

        self._ended(batch)

        self.assertEqual(jobs.mapped("state"), ["completed"] * 2)
        (gathering | late).scheduled_at = fields.Datetime.now() + timedelta(minutes=10)
        self._go_on(other)
        self.engine._schedule()
        self.assertFalse(any((gathering | late).mapped("batch_lane")), "as all others now")
        self.assertEqual(len(self.remote.batches), 1)

    def test_the_limit_of_a_model_is_for_what_runs_by_itself(self):
        self.env["llm.generation.model.limit"].create({
            "queue_id": self.queue.id, "model_id": self.native_model.id, "max_concurrent_jobs": 1
        })  # fmt: skip
        self._create_job("running")
        jobs, batch = self._submitted(3)
        self._ended(batch)
        self.assertEqual(jobs.mapped("state"), ["completed"] * 3)

    def test_a_pause_of_a_model_holds_its_batches_only(self):
        other = self.native_model.copy({"name": "Other"})
        jobs, others = self._economy(), self._economy()
        others.write({"model_id": other.id})
        until = fields.Datetime.now() + timedelta(hours=1)
        self.env["llm.generation.model.pause"].create({
            "queue_id": self.queue.id, "model_id": other.id, "paused_until": until
        })  # fmt: skip
        self.assertEqual(self._collect().job_ids, jobs)

    def test_a_budget_is_reserved_at_once_and_settled_by_the_answer(self):
        company = self.user.company_id
        if "llm_user_daily_jobs" not in company._fields:
            self.skipTest("llm_generate_job_budget is not installed")
        self.addCleanup(self.env.registry.clear_cache)
        company.llm_user_daily_jobs = 3

        def spent():
            return tuple(self.engine._spent([("user", self.user.id)])["user", self.user.id])

        jobs, batch = self._submitted(3)
        draft = self._create_job(is_economy=True)
        self.assertIn("The budget of", self._refusal(draft.with_user(self.user).action_queue))
        self.assertGreater(spent()[1], 27)
        jobs[0].action_cancel()
        self.assertEqual(spent()[0], 2)
        jobs[1].action_start()
        self._process_queue()
        with patch.object(type(self.engine), "_note_step", lambda *_args: False):
            self._ended(batch)  # and its process dies
        self._ended(batch)
        self._go_on(batch)
        self.assertEqual(jobs.mapped("state"), ["cancelled", "running", "completed"])
        self.assertEqual(batch.prompt_tokens + batch.completion_tokens, 27)
        jobs[1].write({"prompt_tokens": 5})
        jobs[1].action_complete()
        self.assertEqual(spent(), (3, 27 + 5), "what the answers used, the late ones, too")

    def test_of_what_is_gone_a_budget_keeps_what_it_has(self):
        company = self.user.company_id
        if "llm_user_daily_jobs" not in company._fields:
            self.skipTest("llm_generate_job_budget is not installed")
        self.addCleanup(self.env.registry.clear_cache)
        company.llm_user_daily_jobs = 9
        jobs, batch = self._submitted(3)
        waiting, given_up, _answered = jobs
        spending = self.env["llm.generation.spending"]
        of_waiting = spending.search([("job_id", "=", waiting.id)])
        given_up.action_cancel()
        (waiting | given_up).unlink()
        self._ended(batch)
        total = self.engine._spent([("user", self.user.id)])["user", self.user.id]
        self.assertEqual(tuple(total), (3, of_waiting.tokens + 9 + 9))

    def test_a_conversation_that_goes_elsewhere_takes_its_job_out_of_the_lane(self):
        self._take_batches("fakedirect")
        self.direct_queue.uses_batches = True
        [job] = self._economy(1, thread_id=self._create_thread(self.direct_model).id)
        self.assertTrue(job.batch_lane)
        spare, model = self._create_provider("Spare", "fakedirect")
        job.thread_id.write({"provider_id": spare.id, "model_id": model.id})
        self.assertEqual((job.provider_id, job.batch_lane), (spare, False))
        self.assertEqual(job.state, "queued")

    def test_what_came_into_the_lane_of_a_closed_queue_leaves_it(self):
        jobs = self._economy()
        self.queue.uses_batches = False
        jobs.batch_lane = True  # as of who queued them at the same moment
        self.assertFalse(self._collect())
        self.assertFalse(any(jobs.mapped("batch_lane")))
