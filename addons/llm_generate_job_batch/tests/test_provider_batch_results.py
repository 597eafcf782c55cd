from contextlib import contextmanager
from unittest.mock import patch

from odoo.addons.llm_generate_job.exceptions import (
    BadRequestError,
    ContentRefusedError,
    TransientError,
    UnknownOutcomeError,
)

from ..models import provider_batches
from .batch_common import ProviderBatchCommon
from .test_data import SCHEMA, DataCommon

CUT_OFF = UnknownOutcomeError("Cut off.")
NOT_STORABLE = ValueError("Not this one.")


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

    def test_results_that_end_early_are_read_again(self):
        self.remote.told = {"done": 3}
        jobs, batch = self._submitted(4)
        self.remote.outcomes, self.remote.left_out = {3: {"state": "cancelled"}}, {1, 2}
        self._ended(batch)
        self.assertEqual(jobs.mapped("state"), ["completed"] + ["queued"] * 3)
        self.assertRecordValues(batch, [{"state": "running", "error_type": "unreadable"}])
        self.assertIn("did 3 requests, and brings 2 results", batch.error_message)
        self.remote.left_out = set()
        self._go_on(batch)
        self.assertEqual(jobs.mapped("state"), ["completed"] * 3 + ["queued"])
        self.assertRecordValues(
            batch, [{"state": "done", "error_message": False, "completed_count": 3}]
        )

    def test_results_that_stay_away_keep_no_job_and_are_not_deleted(self):
        self.remote.told, self.remote.left_out = {"done": 7}, {1}
        jobs, batch = self._submitted()
        with self._forgets() as forgotten:
            self._ended(batch)
            self._go_on(batch)
        self.assertRecordValues(
            batch, [{"state": "done", "error_type": "unreadable", "returned_count": 1}]
        )
        self.assertFalse(batch.leased_until or jobs[1].batch_lane)
        self.assertEqual(forgotten, [])

    def test_what_is_stored_whole_is_deleted_at_the_provider(self):
        jobs, batch = self._submitted()
        self.remote.told = {"done": 2}
        with self._forgets() as forgotten:
            self._ended(batch)
        self.assertEqual((jobs.mapped("state"), forgotten), (["completed"] * 2, batch.ids))

    @contextmanager
    def _forgets(self):
        forgotten = []

        def forget(_provider, batch):
            forgotten.append(batch.id)

        with patch.object(type(self.native), "forget_generation_batch", forget):
            yield forgotten

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
