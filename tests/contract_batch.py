"""The contract of a provider that takes many jobs at once, as tests that its module inherits.

    class TestMyBatches(BatchContract, LlmGenerationCommon):
        @classmethod
        def setUpClass(cls):
            super().setUpClass()
            cls.remote = FakeMine()                      # a `FakeHttpService` with `FakeBatches`
            cls.addClassCleanup(cls.remote.close)
            cls.provider, cls.model = cls._create_provider("Mine", "mine")
            cls.provider.write({"api_base": cls.remote.url, "api_key": SECRET})

`FakeBatches` says what such a server does besides answering: it takes a batch, has it end, and
keeps a bill. The tests are skipped where `llm_generate_job_batch` is not installed.
"""

from datetime import timedelta

from odoo import fields

from .fake_http import half

BATCH = "llm.generation.provider.batch"
#: What becomes of a request, by how its prompt begins; all others are answered.
REFUSED, FAILED, UNDONE, EXPIRED = "Refused", "Failed", "Undone", "Expired"
#: What each request of a batch costs that the provider did.
USAGE = {"prompt_tokens": 11, "completion_tokens": 3}


class FakeBatches:
    """What a server of batches keeps: a mixin of `FakeHttpService`.

    A subclass speaks the wire format: it calls `take()` when it is given a batch, and reads
    `batches`: by id, what was asked as pairs of `custom_id` and prompt, in `requests`, its `key`
    where the service keeps one, and its `state`: `running`, `ended`, `cancelled` or `failed`.
    """

    text = "Hello there"

    def reset(self):  # pylint: disable=missing-return
        super().reset()
        self.batches, self.number, self.deleted = {}, 0, set()

    def take(self, requests, key=None):
        """Take a batch; return its id."""
        self.number += 1
        external = f"batch_{self.number}"
        self.batches[external] = {"requests": requests, "key": key, "state": "running"}
        return external

    def lose_reply(self):
        """Have the reply be lost that says the id of the next batch."""
        self.fault(half)

    def finish(self, state="ended"):
        """Have all batches be over that are not."""
        for batch in self.batches.values():
            if batch["state"] == "running":
                batch["state"] = state

    def kept(self, external):
        """Return what the server still has of a batch that is stored: nothing where it deletes."""
        return {external} - self.deleted

    def outcome(self, batch, prompt):
        """Return what became of a request: one of the constants above, or `Answered`."""
        kinds = (REFUSED, FAILED, UNDONE, EXPIRED)
        kind = next((one for one in kinds if prompt.startswith(one)), "Answered")
        is_done = batch["state"] == "ended" or kind in {REFUSED, FAILED}
        return kind if is_done or kind == EXPIRED else UNDONE

    @property
    def bill(self):
        """The tokens of all that was done, `(prompt, completion)`."""
        done = sum(
            self.outcome(batch, prompt) == "Answered"
            for batch in self.batches.values()
            for _custom_id, prompt in batch["requests"]
        )
        return done * USAGE["prompt_tokens"], done * USAGE["completion_tokens"]


class BatchContract:
    """What holds for every provider that takes batches."""

    allow_inherited_tests_method = True

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        if BATCH not in cls.env:
            cls.skipTest(cls, "llm_generate_job_batch is not installed")

    def setUp(self):
        super().setUp()
        self.remote.reset()
        self.batch_queue = self.env["llm.generation.queue"]._get_or_create_queue(self.provider)
        self.batch_queue.write({"uses_batches": True, "batch_jobs": 100, "batch_minutes": 0})

    def _economy(self, *prompts):
        jobs = self.env["llm.generation.job"]
        for prompt in prompts:
            inputs = {"prompt": prompt}
            jobs += self._create_job(
                "queued", model=self.model, is_economy=True, generation_inputs=inputs
            )
        return jobs

    def _batch_of(self, jobs):
        """Have jobs put into a batch, and return it."""
        self._engine()._schedule()
        batch = jobs.sudo().provider_batch_id.with_env(self.env)
        self.assertEqual(len(batch), 1)
        return batch

    def _go_on(self, batch):
        if batch.next_step_at:
            ago = fields.Datetime.now() - timedelta(seconds=1)
            batch.write({"next_step_at": ago, "leased_until": False})
        self._engine()._check_due()

    def _submitted(self, *prompts):
        jobs = self._economy(*prompts)
        batch = self._batch_of(jobs)
        self._go_on(batch)
        self.assertEqual((batch.state, batch.error_message), ("running", False))
        self.assertEqual(batch.external_id, [*self.remote.batches][-1])
        return jobs, batch

    def _ended(self, batch, state="ended"):
        self.remote.finish(state)
        self._go_on(batch)

    def _answers_of(self, job):
        messages = job.thread_id.message_ids
        return messages.filtered(lambda one: one.llm_role == "assistant" and not one.is_error)

    def _assert_bill(self, batch):
        self.assertEqual((batch.prompt_tokens, batch.completion_tokens), self.remote.bill)

    def test_contract_a_batch_is_submitted_once_and_answered_once(self):
        jobs, batch = self._submitted("One?", "Two?", "Three?")

        self._go_on(batch)
        self.assertEqual((batch.state, set(jobs.mapped("state"))), ("running", {"queued"}))
        self._ended(batch)

        self.assertEqual((batch.state, batch.error_message), ("done", False))
        self.assertEqual(jobs.mapped("state"), ["completed"] * 3)
        for job in jobs:
            (answer,) = self._answers_of(job)
            prompt = job.generation_inputs["prompt"]
            self.assertIn(f"{self.remote.text} {prompt}", answer._said())
            self.assertEqual(job.finish_reason, "stop")
        self._assert_bill(batch)
        self.assertFalse(self.remote.kept(batch.external_id), "at the provider, once it is here")
        self.assertEqual(len(self.remote.batches), 1)
        asked = [prompt for _id, prompt in self.remote.batches[batch.external_id]["requests"]]
        self.assertEqual(asked, ["One?", "Two?", "Three?"])

    def test_contract_silent_jobs_of_one_call_are_asked_alone_and_post_nothing(self):
        if not self.provider._answers_without_messages():
            self.skipTest("answers in conversations only")
        create = self.env["llm.generation.job"].create_batch
        call = create(["One?", "Two?"], model=self.model, post=False, is_economy=True)
        jobs = call.job_ids.sorted("id")
        batch = self._batch_of(jobs)
        self._go_on(batch)
        asked = [prompt for _id, prompt in self.remote.batches[batch.external_id]["requests"]]
        self.assertEqual(asked, ["One?", "Two?"])

        self._ended(batch)

        self.assertEqual(jobs.mapped("state"), ["completed"] * 2)
        self.assertEqual(jobs.mapped("finish_reason"), ["stop"] * 2)
        for job, prompt in zip(jobs, asked, strict=True):
            self.assertIn(f"{self.remote.text} {prompt}", job.output_text)
        self.assertFalse(jobs.thread_id.message_ids)
        self._assert_bill(batch)

    def test_contract_each_request_has_the_end_of_its_meaning(self):
        jobs, batch = self._submitted("Yes?", REFUSED, FAILED, UNDONE, EXPIRED, "And this?")

        self._ended(batch)

        answered, refused, failed, undone, expired, other = jobs
        self.assertEqual(set((answered + other).mapped("state")), {"completed"})
        self.assertEqual((refused.state, refused.error_type), ("failed", "bad_request"))
        self.assertFalse(refused.retry_at)
        self.assertEqual((failed.state, failed.error_type), ("failed", "transient"))
        self.assertTrue(failed.retry_at)
        self.assertEqual(set((undone + expired).mapped("state")), {"queued"})
        self.assertFalse((undone + expired).provider_batch_id)
        self.assertEqual(
            (batch.completed_count, batch.failed_count, batch.returned_count), (2, 2, 2)
        )
        self._assert_bill(batch)

    def test_contract_one_whose_id_nobody_heard_is_found(self):
        jobs = self._economy("One?", "Two?")
        batch = self._batch_of(jobs)
        self.remote.lose_reply()
        self._go_on(batch)
        self.assertEqual((batch.state, len(self.remote.batches)), ("submitting", 1))
        # Others were made meanwhile, as many, by whoever has the same key.
        with self.remote.lock:
            self.remote.take([("foreign-1", "One?"), ("foreign-2", "Two?")], "foreign")
            self.remote.finish()

        for _step in range(3):
            self._go_on(batch)

        self.assertEqual((batch.state, batch.external_id), ("done", "batch_1"))
        self.assertEqual(len(self.remote.batches), 2)
        self.assertEqual(jobs.mapped("state"), ["completed"] * 2)

    def test_contract_one_that_was_not_taken_is_submitted_again(self):
        jobs = self._economy("One?", "Two?")
        batch = self._batch_of(jobs)
        with self.remote.lock:
            self.remote.take([("foreign-1", "One?"), ("foreign-2", "Two?")], "foreign")
            self.remote.finish()
        self.remote.refuse("transient")
        self._go_on(batch)
        self.assertEqual((batch.state, len(self.remote.batches)), ("submitting", 1))
        self._go_on(batch)
        self.assertEqual((batch.state, len(self.remote.batches)), ("running", 2))

    def test_contract_a_refused_submission_waits_or_is_given_up(self):
        for meaning, state in (
            ("rate_limited", "collected"),
            ("quota", "collected"),
            ("authentication", "collected"),
            ("bad_request", "failed"),
        ):
            with self.subTest(meaning):
                self.remote.reset()
                self.batch_queue.action_process_queue()
                jobs = self._economy("One?")
                batch = self._batch_of(jobs)
                self.remote.refuse(meaning)
                self._go_on(batch)
                self.assertEqual((batch.state, batch.error_type), (state, meaning))
                self.assertFalse(self.remote.batches)
                self.batch_queue.action_process_queue()
                if state == "collected":
                    self._go_on(batch)
                    self.assertEqual(batch.state, "running")
                if jobs.can_cancel:  # else it has run by itself
                    jobs.action_cancel()
                self._ended(batch)

    def test_contract_a_cancelled_one_keeps_what_is_done(self):
        jobs, batch = self._submitted("One?", REFUSED)
        batch.with_user(self.manager).action_cancel()
        self._go_on(batch)
        if not self.stops_batches:
            self.assertEqual((batch.state, batch.error_message), ("running", False))
            self.remote.finish("cancelled")
        self.assertEqual(self.remote.batches[batch.external_id]["state"], "cancelled")
        self._go_on(batch)
        self.assertEqual(batch.state, "done")
        refused = "failed" if self.tells_what_was_done else "queued"
        self.assertEqual(jobs.mapped("state"), ["queued", refused])
        self._assert_bill(batch)

    def test_contract_one_that_failed_as_a_whole_has_its_jobs_run(self):
        jobs, batch = self._submitted("One?", "Two?")
        if not self.fails_as_a_whole:
            return
        self._ended(batch, "failed")
        self.assertEqual(batch.state, "failed")
        self.assertTrue(batch.error_message)
        self.assertFalse(any(jobs.mapped("batch_lane")))

    #: Whether the service knows a batch that it did not begin.
    fails_as_a_whole = True
    #: Whether the service stops a batch that is cancelled, and tells what it had done by then.
    stops_batches = tells_what_was_done = True

    def test_contract_an_outage_ends_nothing(self):
        jobs, batch = self._submitted("One?", "Two?")
        for meaning in ("overloaded", "transient", "unknown_outcome", "rate_limited"):
            self.remote.refuse(meaning)
            self._go_on(batch)
            self.assertEqual((batch.state, batch.error_type), ("running", meaning))
        self._ended(batch)
        self.assertEqual(jobs.mapped("state"), ["completed"] * 2)

    def test_contract_no_key_is_told(self):
        jobs, batch = self._submitted("One?", "Key of REFUSED")
        self.remote.refuse("transient", text=f"No {self.provider._read_api_key()} here")
        self._go_on(batch)
        self._ended(batch)
        key = self.provider._read_api_key()
        self.assertTrue(key)
        kept = [self._values(batch), self._values(jobs), self._values(jobs.attempt_ids)]
        self.assertNotIn(key, repr(kept))
