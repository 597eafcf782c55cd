from odoo.addons.llm_generate_job.protocol import bounded_http
from odoo.addons.llm_generate_job.tests.common import LlmGenerationCommon
from odoo.addons.llm_generate_job.tests.contract_batch import BatchContract
from odoo.addons.llm_generate_job.tests.fake_http import Reply, half

from .common import API_KEY
from .fake_batches import FakeOpenAIBatches, FakeOpenRouter


class BatchesCommon(LlmGenerationCommon):
    use_background_jobs = False
    server = FakeOpenAIBatches

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.remote = cls.server()
        cls.addClassCleanup(cls.remote.close)
        cls.provider, cls.model = cls._create_provider("Fake", "openai")
        cls.provider.write({
            "api_base": f"{cls.remote.url}/v1",
            "api_key": API_KEY,
            "use_background_jobs": cls.use_background_jobs,
        })


class TestChatBatches(BatchContract, BatchesCommon):
    def test_a_request_is_what_the_chat_would_send(self):
        self._needs(self.provider._chat_inputs(), "whose chat takes inputs")
        thread = self._create_thread(self.model)
        thread.message_post(body="One?", llm_role="user")
        thread.message_post(body="Two.", llm_role="assistant")
        inputs = {"max_tokens": 5, "temperature": 0.5}
        job = thread.enqueue_generation("Three?", is_economy=True, inputs=inputs)
        batch = self._batch_of(job)
        self._go_on(batch)

        (line,) = self.remote.lines
        self.assertEqual(line["url"], "/v1/chat/completions")
        told = [(one["role"], one["content"]) for one in line["body"]["messages"]]
        known = [("user", "One?"), ("assistant", "Two.")] * hasattr(thread, "get_llm_messages")
        self.assertEqual(told, [*known, ("user", "Three?")])
        self.assertEqual((line["body"]["max_tokens"], line["body"]["temperature"]), (5, 0.5))
        self.assertEqual(line["custom_id"], f"{batch.key}-{job.id}")

    def test_a_batch_without_room_waits(self):
        jobs, batch = self._submitted("One?")
        shown = self.remote.shown
        error = {"code": "token_limit_exceeded", "message": "Enqueued token limit reached."}
        self.remote.shown = lambda one: {**shown(one), "errors": {"data": [error]}}
        self.addCleanup(delattr, self.remote, "shown")

        self._ended(batch, "failed")

        self.assertEqual((batch.state, batch.error_type), ("failed", "rate_limited"))
        self.assertTrue(jobs.batch_lane)
        self.assertTrue(batch.pauses_until)

    def test_a_batch_is_found_on_a_later_page(self):
        job = self._economy("One?")
        batch = self._batch_of(job)
        self.remote.lose_reply()
        self._go_on(batch)
        for number in range(4):
            self.remote.take([(f"other-{number}", "Other?")], None)
        self._go_on(batch)
        self.assertEqual((batch.state, batch.external_id), ("running", "batch_1"))
        self.assertEqual(self.remote.count("GET", "/batches"), 5)

    def test_a_lost_upload_is_no_batch(self):
        job = self._economy("One?")
        batch = self._batch_of(job)
        self.remote.fault(half)
        self._go_on(batch)
        self.assertEqual((batch.state, self.remote.batches), ("submitting", {}))
        self._go_on(batch)
        self.assertEqual((batch.state, len(self.remote.batches)), ("running", 1))

    def test_a_refusal_of_the_model_is_its_answer(self):
        jobs, batch = self._submitted("One?")
        line = self.remote.line

        def refusing(*args):
            told = line(*args)
            message = told["response"]["body"]["choices"][0]["message"]
            message |= {"content": None, "refusal": "I will not."}
            return told

        self.remote.line = refusing
        self.addCleanup(delattr, self.remote, "line")
        self._ended(batch)
        self.assertRecordValues(jobs, [{"state": "completed", "finish_reason": "refusal"}])
        self.assertIn("I will not.", self._answers_of(jobs).body)

    def test_a_line_that_cannot_be_read_holds_up_no_other(self):
        jobs, batch = self._submitted("One?", "Two?", "Three?")
        get_files = self.remote.get_files

        def cut(*args):
            first, second, third = get_files(*args).body.split(b"\n")
            return Reply(200, b"\n".join([first, second[:-9], third]))

        self.remote.get_files = lambda *args: cut(*args) if "output" in args[1] else Reply(200, b"")
        self.addCleanup(delattr, self.remote, "get_files")
        with self.assertLogs(bounded_http._logger, "WARNING"):
            self._ended(batch)
        self.assertEqual(batch.state, "done")
        self.assertEqual(jobs.mapped("state"), ["completed", "queued", "completed"])
        self.assertFalse(jobs[1].batch_lane, "it runs by itself")

    def test_lines_that_are_odd_end_their_job_only(self):
        jobs, batch = self._submitted("One?", "Two?", "Three?", "Four?")
        told = {"status_code": 200, "body": "text"}
        odd = iter(({"response": told}, {"response": None}, {"error": "none"}))
        line = self.remote.line
        self.remote.line = lambda *args: next(odd, None) or line(*args)
        self.addCleanup(delattr, self.remote, "line")
        self._ended(batch)
        self.assertEqual(jobs[0].state, "completed", "the last line of all")
        self.assertEqual(batch.state, "done")
        self.assertEqual(set(jobs[1:].mapped("state")), {"failed"})


class TestBackgroundBatches(BatchContract, BatchesCommon):
    use_background_jobs = True

    def test_a_request_is_what_a_background_job_would_send(self):
        job = self._create_job(
            "queued",
            model=self.model,
            is_economy=True,
            generation_inputs={"prompt": "One?", "max_tokens": 5},
        )
        batch = self._batch_of(job)
        self._go_on(batch)
        (line,) = self.remote.lines
        self.assertEqual(line["url"], "/v1/responses")
        self.assertEqual(
            line["body"],
            {
                "model": self.model.name,
                "input": [{"role": "user", "content": "One?"}],
                "max_output_tokens": 5,
            },
        )


class TestBatchesWithoutFiles(BatchContract, BatchesCommon):
    """A server as OpenRouter, of which the same code asks in another way."""

    server = FakeOpenRouter
    stops_batches = False

    def test_while_nobody_can_know_it_is_not_submitted_again(self):
        jobs = self._economy("One?", "Two?")
        batch = self._batch_of(jobs)
        self.remote.lose_reply()
        for _step in range(5):
            self._go_on(batch)
            self.assertEqual((batch.state, len(self.remote.batches)), ("submitting", 1))
        self._ended(batch)
        self._go_on(batch)
        self.assertEqual((batch.state, jobs.mapped("state")), ("done", ["completed"] * 2))

    def test_a_result_that_is_none_holds_up_no_other(self):
        jobs, batch = self._submitted("One?", "Two?")
        results = self.remote.results
        self.remote.results = lambda one: ["odd", None, *(results(one) or ())]
        self.addCleanup(delattr, self.remote, "results")
        self._ended(batch)
        self.assertEqual((batch.state, jobs.mapped("state")), ("done", ["completed"] * 2))

    def test_one_of_before_is_none(self):
        self.remote.take([("foreign-1", "One?")])
        self.remote.batches["batch_1"]["made"] = 1_000_000
        batch = self._batch_of(self._economy("One?"))
        self.remote.refuse("transient")
        self._go_on(batch)
        self._go_on(batch)
        self.assertEqual((batch.state, batch.external_id), ("running", "batch_2"))
