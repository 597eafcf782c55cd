import logging
import os
import time
from datetime import timedelta
from pathlib import Path
from unittest.mock import patch

from odoo import fields
from odoo.exceptions import AccessError, UserError
from odoo.modules.neutralize import get_neutralization_queries

from odoo.addons.llm_generate_job.exceptions import (
    AuthenticationError,
    BadRequestError,
    ContentRefusedError,
    OverloadedError,
    RateLimitedError,
    TransientError,
    UnknownOutcomeError,
)
from odoo.addons.llm_generate_job.runner.cursor import READ_RE
from odoo.addons.llm_generate_job.runner.limits import ERRANDS

from .. import statements
from ..models import provider_batches
from .batch_common import ProviderBatchCommon
from .test_data import SCHEMA, DataCommon

CUT_OFF = UnknownOutcomeError("Cut off.")
NOT_STORABLE = ValueError("Not this one.")


class TestCollecting(ProviderBatchCommon):
    def test_so_many_are_submitted_together_and_take_no_slot(self):
        first = self._economy(1)
        self.assertFalse(self._collect())
        second = self._economy(1)

        batch = self._collect()
        self._go_on(batch)

        self.assertEqual(batch.job_ids, first | second)
        self.assertRecordValues(
            batch, [{"state": "running", "job_count": 2, "external_id": "batch-1"}]
        )
        self.assertEqual(len(self.remote.batches), 1)
        self.assertEqual((first | second).mapped("state"), ["queued"] * 2)
        self.assertEqual(self._process_queue(), 0)
        self.assertEqual(self.queue.current_running_jobs, 0)
        (told,) = self.remote.batches.values()
        self.assertEqual(told["key"], batch.key)
        self.assertEqual(
            list(told["requests"]), [f"{batch.key}-{job.id}" for job in first | second]
        )

    def test_a_few_wait_for_others_until_their_time_is_over(self):
        job = self._economy(1)
        self.assertFalse(self._collect())

        job.queued_at = self._ago(11 * 60)

        self.assertEqual(self._collect().job_ids, job)

    def test_no_batch_has_more_jobs_than_it_may(self):
        self._economy(5)

        batches = self._collect()

        self.assertEqual(batches.mapped("job_count"), [2, 2])
        self.assertFalse(self._collect())

    def test_tokens_at_the_provider_have_a_limit(self):
        jobs = self._economy(4)
        jobs.estimated_tokens = 100
        self.queue.write({"batch_jobs": 100, "batch_tokens": 250})

        batch = self._collect()

        self.assertEqual(batch.job_count, 2, "no more, and as soon as that")
        batch.job_ids[0].action_start()  # which the provider has all the same
        jobs.queued_at = self._ago(11 * 60)
        self.assertFalse(self._collect().job_count == 2, "50 tokens are left")
        self.queue.batch_tokens = 400
        self._go_on()
        self._ended(batch)
        self.assertTrue(self._batches() - batch)

    def test_each_model_has_batches_of_its_own(self):
        other = self.native_model.copy({"name": "Other"})
        jobs = self._economy(2)
        others = self.env["llm.generation.job"]
        for _job in range(2):
            others += self._create_job("queued", model=other, is_economy=True)

        batches = self._collect()

        self.assertEqual({batch.job_ids for batch in batches}, {jobs, others})

    def test_what_no_batch_can_ask_for_waits_as_before(self):
        tool = self.env["llm.tool"].search([], limit=1) or self.env["llm.tool"].create({
            "name": "tool", "description": "A tool.", "implementation": self._tool_implementation(),
        })  # fmt: skip
        with_tool = self._create_job(is_economy=True)
        with_tool.thread_id.tool_ids = tool
        soon = self._create_job(
            is_economy=True, scheduled_at=fields.Datetime.now() + timedelta(hours=1)
        )
        thread = self._create_thread()
        together = self._create_job(is_economy=True, thread_id=thread.id)
        together += self._create_job(is_economy=True, thread_id=thread.id)
        ordinary = self._create_job(scheduled_at=fields.Datetime.now() + timedelta(hours=9))
        image = self._create_job(is_economy=True)
        image.model_id.model_use = "image_generation"
        jobs = with_tool + soon + together + ordinary
        jobs.action_queue()
        self.assertFalse(any(jobs.mapped("batch_lane")))
        image.action_queue()
        self.assertFalse(image.batch_lane)

    def test_a_closed_or_paused_queue_submits_nothing(self):
        jobs = self._economy()
        for values in (
            {"enabled": False},
            {"paused_until": "2999-01-01 00:00:00"},
        ):
            with self.subTest(values):
                back = {"enabled": True, "paused_until": False}
                self.queue.write({**back, **values})
                self.assertFalse(self._collect())
                self.queue.write(back)
        batch = self._collect()
        self.queue.enabled = False
        self._go_on(batch)
        self.assertEqual((batch.state, batch.tries), ("collected", 0))
        self.queue.enabled = True
        self._go_on(batch)
        self.assertEqual((batch.state, batch.job_ids), ("running", jobs))

    def test_a_job_that_would_be_late_leaves_before(self):
        job = self._economy(1)
        job.scheduled_at = fields.Datetime.now() + timedelta(minutes=90)
        self.assertTrue(job.batch_lane)

        self._collect()

        self.assertFalse(job.batch_lane)
        self.assertFalse(job.is_scheduled, "the queue is idle")

    def test_switching_it_on_and_off_counts_for_what_waits(self):
        self.queue.uses_batches = False
        jobs = self._economy(6)
        self.assertFalse(any(jobs.mapped("batch_lane")))
        self.queue.uses_batches = True
        self.assertTrue(all(jobs.mapped("batch_lane")))
        self.queue.batch_jobs = 4
        batch = self._collect()
        self.queue.uses_batches = False
        self.assertEqual(jobs.filtered("batch_lane"), batch.job_ids)
        self.assertEqual(self._process_queue(), 2, "the others run, as the queue is idle")

    def test_only_a_provider_that_takes_batches_can_have_them(self):
        with self.assertRaisesRegex(UserError, "takes no batches"):
            self.direct_queue.uses_batches = True

    def test_a_provider_that_takes_none_any_more_has_its_jobs_run(self):
        jobs = self._economy()
        with patch.object(type(self.native), "_takes_batches", lambda _provider: False):
            self.assertFalse(self._collect())
        self.assertFalse(any(jobs.mapped("batch_lane")))

    def test_it_says_where_a_job_is(self):
        job = self._economy(1)
        self.assertIn("Waiting for others", job.reason)
        self._economy(1)
        self._collect()
        job.invalidate_recordset()
        self.assertIn("half the price", job.with_user(self.user).reason)


class TestSubmission(ProviderBatchCommon):
    def test_one_is_called_after_its_provider(self):
        _jobs, batch = self._submitted(1)
        self.assertEqual(batch.display_name, f"{self.native.name} #{batch.id}")

    def test_one_that_nobody_heard_of_is_found_by_its_key(self):
        self.remote.raises["submit_done"] = [UnknownOutcomeError("Cut off.")]
        jobs = self._economy()
        batch = self._collect()
        self._go_on(batch)
        self.assertEqual(batch.state, "submitting")

        self._go_on(batch)

        self.assertRecordValues(batch, [{"state": "running", "external_id": "batch-1"}])
        self.assertEqual(len(self.remote.batches), 1)
        self._ended(batch)
        self.assertEqual(jobs.mapped("state"), ["completed"] * 2)

    def test_one_that_the_provider_does_not_have_is_submitted_again(self):
        self.remote.raises["submit"] = [TransientError("Oops.")]
        self._economy()
        batch = self._collect()
        self._go_on(batch)
        self._go_on(batch)
        self.assertEqual(self.remote.calls.count("find"), 1)
        self.assertEqual((batch.state, len(self.remote.batches)), ("running", 1))

    def test_it_is_not_submitted_while_nobody_knows(self):
        self.remote.raises["submit_done"] = [UnknownOutcomeError("Cut off.")]
        self.remote.raises["find"] = [OverloadedError("Later."), TransientError("Later.")]
        self._economy()
        batch = self._collect()
        for _step in range(3):
            self._go_on(batch)
            self.assertEqual(batch.state, "submitting")
        self._go_on(batch)
        self.assertEqual((batch.state, len(self.remote.batches)), ("running", 1))

    def test_its_intent_is_noted_before_the_call(self):
        seen = []

        def submit(provider, batch, requests):
            seen.append((batch.state, batch.key, batch.leased_until > fields.Datetime.now()))
            return self.remote.submit(provider, batch, requests)

        self._economy()
        batch = self._collect()
        with self._offered(fakenative_submit_generation_batch=submit):
            self._go_on(batch)
        self.assertEqual(seen, [("submitting", batch.key, True)])

    def test_who_lost_it_meanwhile_takes_back_what_it_submitted(self):
        self._economy()
        batch = self._collect()

        def submit(provider, one, requests):
            external = self.remote.submit(provider, one, requests)
            self.env["llm.generation.provider.batch"].browse(batch.id).write({
                "step": 7, "state": "running", "external_id": "another"
            })  # fmt: skip
            self.env.flush_all()
            return external

        with (
            self._offered(fakenative_submit_generation_batch=submit),
            self.assertLogs(provider_batches._logger, "WARNING"),
        ):
            self._go_on(batch)

        self.assertEqual(batch.external_id, "another")
        self.assertTrue(self.remote.batches["batch-1"]["is_cancelled"])

    def test_who_lost_it_before_the_call_submits_nothing(self):
        self._economy()
        batch = self._collect()

        def prepare(provider, job):
            self.env["llm.generation.provider.batch"].browse(batch.id).step = 7
            self.env.flush_all()
            return self.remote.prepare(provider, job)

        with self._offered(fakenative_prepare_generation_batch=prepare):
            self._go_on(batch)
        self.assertFalse(self.remote.batches)

    def test_a_refusal_that_passes_keeps_the_batch(self):
        self.remote.raises["submit"] = [RateLimitedError("Slower.", retry_after=1000)]
        self._economy()
        batch = self._collect()
        self._go_on(batch)
        self.assertEqual((batch.state, batch.error_type), ("collected", "rate_limited"))
        wait = (batch.next_step_at - fields.Datetime.now()).total_seconds()
        self.assertAlmostEqual(wait, 1000, delta=5)
        self.assertTrue(self.queue.batches_paused_until)
        batch.pauses_until = self._ago(1)
        self._go_on(batch)
        self.assertEqual((batch.state, batch.error_message), ("running", False))
        self.assertNotIn("find", self.remote.calls, "it was not taken, that is sure")

    def test_a_refusal_of_one_model_holds_no_batch_of_another(self):
        self.remote.raises["submit"] = [RateLimitedError("Slower.", retry_after=1000)]
        self._economy()
        refused = self._collect()
        self._go_on(refused)
        other = self.native_model.copy({"name": "Other"})
        again = self._economy()
        others = self.env["llm.generation.job"]
        for _job in range(2):
            others += self._create_job("queued", model=other, is_economy=True)

        batch = self._collect()
        self._go_on(batch)

        self.assertEqual((batch.job_ids, batch.state), (others, "running"))
        self._go_on(refused)
        self.assertEqual((refused.state, len(self.remote.batches)), ("collected", 1))
        self.assertFalse(again.provider_batch_id)
        later = refused.next_step_at = fields.Datetime.now() + timedelta(seconds=900)
        self.assertEqual(self.queue.batches_paused_until, refused.pauses_until)
        self.queue.with_user(self.manager).action_process_queue()
        self.assertFalse(refused.pauses_until)
        self.assertLess(refused.next_step_at, later, "it is tried again now")
        self.assertTrue(again.provider_batch_id)
        self._go_on(refused)
        self.assertEqual(refused.state, "running")

    def test_a_refusal_of_the_account_holds_batches_only(self):
        self.remote.raises["submit"] = [AuthenticationError("Wrong key.")]
        jobs = self._economy()
        batch = self._collect()
        self._go_on(batch)
        self.assertEqual((batch.state, batch.error_type), ("collected", "authentication"))
        self.assertFalse(self.queue.refused_by, "a key may have the right to single calls")
        self.assertFalse(self.queue.paused_until)
        self._go_on(batch)
        self.assertFalse(self.remote.batches, "their pause is not over")
        self.assertTrue(all(jobs.mapped("batch_lane")))
        batch.pauses_until = self._ago(1)
        self._go_on(batch)
        self.assertEqual((batch.state, batch.tries), ("running", 1))

    def test_one_that_may_be_there_is_looked_for_before_anything_else(self):
        for error in (UnknownOutcomeError("Cut off."), UnknownOutcomeError("Cut", unbilled=True)):
            with self.subTest(error=error.args):
                self.remote.raises["submit_done"] = [error]
                self.remote.raises["find"] = [
                    TransientError("No way there.", unbilled=True),
                    RateLimitedError("Slower."),
                    AuthenticationError("Not now."),
                    BadRequestError("A proxy knows no such page."),
                ]
                before = len(self.remote.batches)
                self._economy()
                batch = self._collect()
                for _step in range(5):
                    self._go_on(batch)
                    self.assertEqual(batch.state, "submitting")
                self._go_on(batch)
                self.assertEqual(batch.state, "running")
                self.assertEqual(len(self.remote.batches), before + 1)

    def test_what_changed_since_it_was_chosen_is_not_asked_in_it(self):
        jobs = self._economy(3)
        self.queue.batch_jobs = 3
        batch = self._collect()
        tool = self.env["llm.tool"].create({
            "name": "look",
            "description": "Looks",
            "implementation": self._tool_implementation(),
        })
        jobs[0].thread_id.sudo().tool_ids = tool
        other = self.native_model.copy({"name": "Other"})
        jobs[1].sudo().model_id = other
        self._go_on(batch)
        self.assertEqual((batch.job_ids, batch.job_count), (jobs[2], 1))
        self.assertEqual(jobs.mapped("batch_lane"), [False, False, True])

    def test_a_refusal_for_good_has_the_jobs_run_by_themselves(self):
        self.remote.raises["submit"] = [BadRequestError("No such address.")]
        jobs = self._economy()
        batch = self._collect()
        self._go_on(batch)
        self.assertEqual((batch.state, batch.error_message), ("failed", "No such address."))
        self.assertTrue(self.queue.batches_paused_until)
        self.assertFalse(any(jobs.mapped("batch_lane")))
        self.assertFalse(jobs.provider_batch_id)
        self.assertEqual(self._process_queue(), 2)

    def test_a_job_that_no_batch_can_ask_for_runs_by_itself(self):
        self.remote.raises["prepare"] = [ContentRefusedError("Not this.")]
        first, second = self._economy()
        batch = self._collect()
        self._go_on(batch)
        self.assertEqual((batch.job_ids, batch.job_count), (second, 1))
        self.assertFalse(first.batch_lane)

    def test_what_is_too_large_is_split(self):
        jobs = self._economy(3)
        self.queue.batch_jobs = 3
        limits = {"bytes": 60}
        with self._offered(fakenative_batch_limits=lambda _provider: limits):
            batch = self._collect()
            self._go_on(batch)
            self.assertEqual(batch.job_count, 2)
            self.assertTrue(all(jobs.mapped("batch_lane")))
            limits["bytes"] = 5
            jobs.queued_at = self._ago(11 * 60)
            second = self._collect()
            self._go_on(second)
        self.assertEqual(second.state, "cancelled", "no batch has room for it")
        self.assertEqual(jobs.mapped("batch_lane"), [True, True, False])

    def test_it_is_not_tried_for_ever(self):
        self.remote.raises["submit"] = [TransientError("Oops.")] * 9
        jobs = self._economy()
        batch = self._collect()
        for _step in range(9):
            self._go_on(batch)
        self.assertEqual(batch.state, "failed")
        self.assertEqual(self.remote.calls.count("submit"), provider_batches.MOST_TRIES)
        self.assertFalse(any(jobs.mapped("batch_lane")))

    def test_a_mistake_of_the_code_is_logged_and_tried_again(self):
        self.remote.raises["submit"] = [KeyError("id")]
        self._economy()
        batch = self._collect()
        with self.assertLogs(provider_batches._logger, "ERROR"):
            self._go_on(batch)
        self._go_on(batch)
        self.assertEqual(batch.state, "running")


class TestResults(ProviderBatchCommon):
    def test_answers_are_stored_once_whatever_their_order(self):
        jobs, batch = self._submitted(3)

        self._ended(batch)

        for place, job in enumerate(jobs):
            self.assertRecordValues(
                job, [{"state": "completed", "prompt_tokens": 7, "completion_tokens": 2}]
            )
            (answer,) = self._answers_of(job)
            self.assertEqual(answer, job.output_message_id)
            self.assertIn(f"Answer to Question {place}", answer.body)
            self.assertEqual(answer.parent_id, job.input_message_id)
            self.assertTrue(job.input_message_id.body)
            self.assertTrue(job.batch_priced)
            self.assertEqual(job.attempt_ids.mapped("outcome"), ["completed"])
        self.assertRecordValues(
            batch,
            [{
                "state": "done", "completed_count": 3, "failed_count": 0, "returned_count": 0,
                "late_count": 0, "prompt_tokens": 21, "completion_tokens": 6,
            }],
        )  # fmt: skip
        self.assertTrue(batch.ended_at)
        self._go_on(batch)
        self.assertEqual(len(self._answers_of(jobs[0])), 1)

    def test_each_has_the_end_of_its_meaning(self):
        self.remote.outcomes = {
            0: {"state": "failed", "error": ContentRefusedError("Not this.")},
            1: {"state": "failed", "error": TransientError("Oops.")},
            2: {"state": "cancelled"},
            3: {"state": "completed", "text": " "},
            5: {"state": "completed", "text": "Half", "finish_reason": "max_tokens"},
            6: {"state": "running"},
        }
        self.remote.left_out = {4}
        jobs, batch = self._submitted(7)

        self._ended(batch)

        refused, failed, undone, empty, missing, cut, odd = jobs
        self.assertEqual((odd.state, odd.error_type), ("failed", "unreadable"))
        self.assertEqual((refused.state, refused.error_type), ("failed", "content_refused"))
        self.assertFalse(refused.retry_at)
        self.assertEqual((failed.state, bool(failed.retry_at)), ("failed", True))
        self.assertEqual((empty.state, empty.error_type), ("failed", "provider_failed"))
        self.assertEqual((cut.state, cut.finish_reason), ("completed", "length"))
        for job in undone + missing:
            self.assertEqual((job.state, job.attempt_count), ("queued", 0))
            self.assertFalse(job.batch_lane or job.provider_batch_id)
        self.assertEqual(
            (batch.completed_count, batch.failed_count, batch.returned_count), (1, 4, 2)
        )
        self.assertEqual(self._process_queue(), 2, "they run by themselves")

    def test_what_is_tried_again_costs_the_full_price(self):
        self.remote.outcomes = {0: {"state": "failed", "error": TransientError("Oops.")}}
        jobs, batch = self._submitted()
        self._ended(batch)
        self.assertTrue(jobs[0].batch_priced)
        jobs[0].action_retry()
        self.assertFalse(jobs[0].batch_priced or jobs[0].provider_batch_id)
        self.assertEqual((jobs[0].retry_count, jobs[0].is_scheduled), (1, False))

    def test_what_failed_in_one_moves_to_another_model_and_leaves_it(self):
        self.remote.outcomes = {0: {"state": "failed", "error": BadRequestError("No.")}}
        jobs, batch = self._submitted()
        self._ended(batch)
        jobs[0]._move_to(self.direct_model)
        self.assertEqual((jobs[0].state, jobs[0].provider_id), ("queued", self.direct))
        self.assertFalse(jobs[0].provider_batch_id or jobs[0].batch_priced or jobs[0].batch_lane)
        self.assertEqual((batch.completed_count, batch.failed_count), (1, 1))

    def test_a_broken_end_is_read_again_and_stores_the_rest(self):
        for chunk in (1, 200):
            with self.subTest(chunk), patch.object(provider_batches, "CHUNK", chunk):
                self._check_broken_end()

    def _check_broken_end(self):
        self.remote.state = "running"
        jobs, batch = self._submitted(3)
        self.remote.state = "ended"
        original = self.remote.results

        def results(external):
            for number, result in enumerate(original(external)):
                if number == 2:
                    raise CUT_OFF
                yield result

        with patch.object(self.remote, "results", results):
            self._go_on(batch)
        self.assertEqual(jobs.mapped("state"), ["queued", "completed", "completed"])
        self.assertEqual(batch.error_type, "unknown_outcome")
        self.assertEqual(batch.state, "running")
        self._go_on(batch)
        self.assertEqual(jobs.mapped("state"), ["completed"] * 3)
        self.assertEqual([len(self._answers_of(job)) for job in jobs], [1, 1, 1])
        self.assertEqual((batch.completed_count, batch.prompt_tokens), (3, 21))

    def test_odd_results_hold_up_no_other(self):
        jobs, batch = self._submitted(4)
        self.remote.outcomes = {
            0: {"state": "completed", "text": 7},
            1: {"state": "completed", "text": "Seven", "usage": "7 tokens"},
            2: {"state": "odd", "usage": [7]},
        }
        self._ended(batch)
        self.assertEqual(batch.state, "done")
        self.assertEqual(jobs.mapped("state"), ["completed", "completed", "failed", "completed"])

    def test_one_that_cannot_be_stored_does_not_hold_up_the_rest(self):
        jobs, batch = self._submitted(3)
        post = type(self.env["llm.thread"]).message_post

        def message_post(thread, **kwargs):
            if thread == jobs[1].thread_id and kwargs.get("llm_role") == "assistant":
                raise NOT_STORABLE
            return post(thread, **kwargs)

        with (
            self._offered("llm.thread", message_post=message_post),
            self.assertLogs(provider_batches._logger, "ERROR"),
        ):
            self._ended(batch)
        self.assertEqual(jobs.mapped("state"), ["completed", "failed", "completed"])
        self.assertEqual((jobs[1].error_type, jobs[1].prompt_tokens), ("internal", 7))

    def test_answers_to_what_runs_by_itself_or_is_over_are_thrown_away(self):
        jobs, batch = self._submitted(4)
        cancelled, late, deleted, waiting = jobs
        cancelled.action_cancel()
        late.action_start()
        self._process_queue()
        self.assertEqual(late.state, "running")
        deleted.unlink()

        self._ended(batch)

        self.assertEqual((cancelled.state, late.state), ("cancelled", "running"))
        self.assertFalse(self._answers_of(cancelled) + self._answers_of(late))
        self.assertEqual(waiting.state, "completed")
        self.assertEqual((batch.completed_count, batch.late_count), (1, 3))
        self.assertEqual(batch.prompt_tokens, 28, "they are paid for")

    def test_answers_to_what_stands_in_line_are_taken(self):
        jobs, batch = self._submitted(3)
        jobs[0].action_start()
        jobs[1].write({"scheduled_at": self._ago(1), "is_scheduled": True})
        self.engine._schedule()  # its date has come
        self.assertEqual(jobs.mapped("is_scheduled"), [False, False, True])

        self._ended(batch)

        self.assertEqual(jobs.mapped("state"), ["completed"] * 3)
        self.assertEqual(jobs.mapped("attempt_count"), [1] * 3)
        self.assertEqual(jobs.mapped("batch_priced"), [True] * 3)
        self.assertEqual((batch.completed_count, batch.late_count), (3, 0))
        self.assertEqual(self._process_queue(), 0, "nothing is asked twice")

    def test_what_stands_in_line_and_is_just_changed_is_stored_later(self):
        jobs, batch = self._submitted()
        jobs[0].action_start()
        with patch.object(type(self.engine), "_store_chunk", lambda *_args: None):
            self._ended(batch)  # as if somebody held their rows
        self.assertEqual((batch.state, batch.late_count), ("running", 0))
        jobs[1].action_cancel()
        with patch.object(type(self.engine), "_store_chunk", lambda *_args: None):
            self._ended(batch)
        self.assertEqual(batch.state, "running", "the one in line is waited for, too")
        self._ended(batch)
        self.assertEqual(jobs.mapped("state"), ["completed", "cancelled"])
        self.assertEqual((batch.state, batch.late_count), ("done", 1))

    def test_answers_to_what_was_asked_by_itself_are_none(self):
        jobs, batch = self._submitted()
        jobs[0].action_start()
        self._process_queue()
        self.engine._snooze(jobs[0])
        self.assertEqual((jobs[0].state, jobs[0].is_scheduled), ("queued", False))
        self._ended(batch)
        self.assertEqual((batch.completed_count, batch.late_count), (1, 1))

    def test_answers_of_somebody_else_are_none(self):
        jobs, batch = self._submitted()
        other = self._economy(1)
        original = self.remote.results

        def results(external):
            yield f"{'0' * 32}-{jobs[0].id}", self.remote.answer({"prompt": "foreign"})
            yield f"{batch.key}-{other.id}", self.remote.answer({"prompt": "foreign"})
            yield "odd", self.remote.answer({"prompt": "foreign"})
            yield f"{batch.key}-{2**70}", self.remote.answer({"prompt": "foreign"})
            yield f"{batch.key}-{'9' * 5000}", self.remote.answer({"prompt": "foreign"})
            yield from original(external)

        with patch.object(self.remote, "results", results):
            self._ended(batch)
        self.assertEqual(other.state, "queued")
        self.assertNotIn("foreign", self._answers_of(jobs[0]).body)

    def test_who_lost_the_right_gets_no_answer(self):
        jobs, batch = self._submitted()
        self.user.active = False
        self._ended(batch)
        self.assertEqual(set(jobs.mapped("error_type")), {"access"})

    def test_neither_the_allowance_nor_the_figures_count_it(self):
        self.queue.tokens_per_minute = 1000
        self._create_job("running")  # from now on there is a bucket
        jobs, batch = self._submitted()
        jobs.estimated_tokens = 500
        before = self._bucket()
        self._ended(batch)
        self.assertEqual(jobs.mapped("state"), ["completed"] * 2)
        self.assertEqual(self._bucket(), before)
        self.assertEqual(jobs.mapped("duration") + jobs.mapped("queue_duration"), [0.0] * 4)

    def _bucket(self):
        self.env.flush_all()
        self.env.cr.execute(
            "SELECT token_level FROM llm_generation_bucket WHERE queue_id = %s", [self.queue.id]
        )
        return self.env.cr.fetchone()

    def test_the_analysis_tells_tokens_at_batch_price(self):
        _jobs, batch = self._submitted()
        self._ended(batch)
        done = self._create_job("completed")
        done.write({"prompt_tokens": 5})
        self.env.flush_all()
        rows = self.env["llm.generation.report"]._read_group(
            [("provider_id", "=", self.native.id)], [], ["tokens:sum", "batch_tokens:sum"]
        )
        self.assertEqual(rows, [(23, 18)])


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


class TestWithoutMessages(ProviderBatchCommon):
    """Answers that nothing is posted of, which may have to be data: what most batches are."""

    def _silent(self, number=2, **values):
        """Return silent jobs of one call, and the batch with them that the provider has."""
        self.queue.batch_jobs = number
        prompts = [f"Question {place}" for place in range(number)]
        jobs = (
            self
            .env["llm.generation.job"]
            .create_batch(prompts, model=self.native_model, post=False, is_economy=True, **values)
            .job_ids
        )
        batch = self._collect()
        self._go_on(batch)
        return jobs, batch

    def test_those_of_one_call_are_answered_and_nothing_is_posted(self):
        jobs, batch = self._silent(3)
        self.assertEqual(batch.job_ids, jobs)
        self.assertEqual(len(jobs.thread_id), 1, "they share it")

        self._ended(batch)

        for job in jobs:
            self.assertEqual(job.output_text, f"Answer to {job.generation_inputs['prompt']}")
        self.assertEqual(jobs.mapped("state"), ["completed"] * 3)
        self.assertFalse(jobs.thread_id.message_ids or jobs.output_message_id)
        self.assertEqual(batch.completed_count, 3)


class TestPace(ProviderBatchCommon):
    """Thousands of answers are stored with few statements, and at a known pace."""

    def _stored(self, number):
        """Store the answers to so many jobs, and return what that took.

        :return: the number of statements, and the seconds of the processor, of Odoo and PostgreSQL;
            and those in which the jobs were queued
        """
        self.queue.batch_jobs = number
        prompts = [f"Question {place}" for place in range(number)]
        create = self.env["llm.generation.job"].create_batch
        queued = self._processor()
        create(prompts, model=self.native_model, post=False, is_economy=True)
        queued = self._processor() - queued
        batch = self._collect()
        self._go_on(batch)
        with self._knowing_nothing():
            statements, processor = self.env.cr.sql_log_count, self._processor()
            self._ended(batch)
            self.env.flush_all()
            processor = self._processor() - processor
            statements = self.env.cr.sql_log_count - statements
        self.assertEqual((batch.state, batch.completed_count), ("done", number))
        return statements, processor, queued

    def _processor(self):
        self.env.cr.execute("SELECT pg_backend_pid()")
        stat = Path(f"/proc/{self.env.cr.fetchone()[0]}/stat")
        told = stat.read_text(encoding="utf-8") if stat.exists() else ""
        ticks = map(int, told.rpartition(")")[2].split()[11:13])
        return time.process_time() + sum(ticks) / os.sysconf("SC_CLK_TCK")

    def test_many_answers_are_stored_with_the_statements_of_a_chunk(self):
        self._stored(2)  # fills the caches of the registry
        few, *_seconds = self._stored(20)
        many, *_seconds = self._stored(200)
        self.assertLessEqual(many, few + 5)

    def test_five_hundred_answers_are_stored_while_three_thousand_are_queued(self):
        """Measure with LLM_TEST_ANSWERS=10000; a ratio, as machines are shared and differ.

        Three thousand in a second is what two quiet cores queue.
        """
        self._stored(50)
        number = int(os.environ.get("LLM_TEST_ANSWERS", "2000"))
        _statements, processor, queued = self._stored(number)
        told = (number, number / processor, processor / queued)
        logging.getLogger(__name__).info("%s answers: %.0f a second, %.1f of queueing", *told)
        self.assertLess(processor / queued, 6)


class TestDataInBatches(DataCommon, ProviderBatchCommon):
    """Answers of batches that have to be data, of a provider that is asked by chat else."""

    def setUp(self):
        super().setUp()
        self._take_batches("fakedirect")
        self.queue = self.env["llm.generation.queue"]._get_or_create_queue(self.direct)
        self.queue.write({"uses_batches": True, "batch_jobs": 1, "batch_minutes": 10})

    def _in_batch(self, text, **result):
        """Return a job whose batch was answered so, and the batch."""
        usage = {"prompt_tokens": 7, "completion_tokens": 2}
        self.remote.outcomes = {0: {"state": "completed", "text": text, "usage": usage, **result}}
        values = {"post": False, "output_schema": SCHEMA, "is_economy": True, **self.values}
        call = self.env["llm.generation.job"].create_batch
        job = call(["How large is it?"], model=self.direct_model, **values).job_ids
        batch = self._collect()
        self._go_on(batch)
        return job, self._ended(batch)

    values = {}

    def test_what_is_valid_is_the_answer(self):
        job, _batch = self._in_batch('{"size": 7}')
        self.assertEqual((job.state, job.output_data), ("completed", {"size": 7}))

    def test_what_is_not_is_repaired_by_chat_and_not_asked_again(self):
        with self._answering("never", '{"size": 7}') as service:
            job, batch = self._in_batch("It is seven.")
            self.assertEqual((job.state, job.batch_lane, job.output_text), ("queued", False, ""))
            self.assertEqual((batch.failed_count, batch.late_count), (1, 0))
            self._run()
        self.assertEqual((job.state, job.output_data), ("completed", {"size": 7}))
        (asked,) = service.asked
        self.assertEqual(asked[-2], {"role": "assistant", "content": "It is seven."})
        self.assertIn("not JSON", asked[-1]["content"])
        self.assertEqual((job.repair_count, job.retry_count), (1, 0))
        self.assertFalse(job.sudo().unfit_output)
        self.assertEqual(job.attempt_ids.sorted("number").mapped("prompt_tokens"), [7, 11])

    def test_what_is_not_repaired_either_fails(self):
        with self._answering("It is seven.") as service:
            job, _batch = self._in_batch("It is seven.")
            self._run()
        self.assertEqual((job.state, job.error_type), ("failed", "unreadable"))
        self.assertEqual(len(service.asked), 1)
        self.assertFalse(job.output_text)

    def test_without_repairs_it_fails(self):
        self.values = {"max_repairs": 0}
        job, _batch = self._in_batch("It is seven.")
        self.assertEqual((job.state, job.error_type), ("failed", "unreadable"))

    def test_a_schema_that_the_service_does_not_know_is_told_by_chat(self):
        refused = BadRequestError("Unknown parameter: response_format")
        with self._answering('{"size": 7}'):
            job, _batch = self._in_batch("", state="failed", error=refused)
            self.assertEqual(job.state, "queued")
            self._run()
        self.assertEqual((job.state, job.output_data), ("completed", {"size": 7}))
