from datetime import UTC, datetime
from unittest.mock import patch

from odoo.addons.llm_generate_job.protocol import bounded_http
from odoo.addons.llm_generate_job.tests.common import LlmGenerationCommon
from odoo.addons.llm_generate_job.tests.contract_batch import BatchContract
from odoo.addons.llm_generate_job.tests.fake_http import Reply, half, json_reply, refusal

from .. import batches, google_batches
from ..models import llm_provider
from .common import API_KEY
from .fake_batches import FakeGemini, FakeOpenAIBatches, FakeOpenRouter


class BatchesCommon(LlmGenerationCommon):
    use_background_jobs = False
    server, path = FakeOpenAIBatches, "/v1"

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.remote = cls.server()
        cls.addClassCleanup(cls.remote.close)
        cls.provider, cls.model = cls._create_provider("Fake", "openai")
        cls.provider.write({
            "api_base": f"{cls.remote.url}{cls.path}",
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

    def test_an_error_within_a_success_keeps_its_meaning(self):
        for body, error_type in (
            ({"status": "failed", "error": {"code": "invalid_prompt", "message": "No."}}, None),
            ({"error": {"code": "insufficient_quota", "message": "Pay."}}, "quota"),
        ):
            line = {"custom_id": "7", "response": {"status_code": 200, "body": body}}
            _id, told = batches.read_line(line)
            self.assertEqual(told["state"], "failed")
            if error_type:
                self.assertEqual(told["error"].error_type, error_type)
            else:
                self.assertEqual(told["error_type"], "content_refused")

    def test_thoughts_that_only_the_total_has_are_paid(self):
        jobs, batch = self._submitted("One?")
        line = self.remote.line

        def thinking(*args):
            told = line(*args)
            usage = {"prompt_tokens": 9, "completion_tokens": 1, "total_tokens": 103}
            told["response"]["body"]["usage"] = usage
            return told

        self.remote.line = thinking
        self.addCleanup(delattr, self.remote, "line")
        self._ended(batch)
        self.assertEqual((jobs.prompt_tokens, jobs.completion_tokens), (9, 94))

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
            self.assertEqual((batch.state, batch.error_type), ("running", "unreadable"))
            self._ended(batch)
        self.assertEqual((batch.state, self.remote.deleted), ("done", set()))
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

    def test_a_file_that_stays_keeps_no_other(self):
        _jobs, batch = self._submitted("One?")
        # It is asked about, read and asked about; then come its files.
        self.remote.fault(*[None] * 4, refusal(404, {}), refusal(400, {}))
        self._ended(batch)
        self.assertEqual(batch.state, "done")
        self.assertEqual(self.remote.deleted, {"errors-batch_1"})


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


class TestGeminiBatches(BatchContract, BatchesCommon):
    """Google's server, of which the compatible endpoint is a part."""

    server, path = FakeGemini, "/v1beta/openai/"
    tells_what_was_done = False

    def test_each_request_goes_where_it_is_known(self):
        jobs, batch = self._submitted("One?")
        batch.with_user(self.manager).action_cancel()
        self._go_on(batch)
        self.assertEqual(jobs.state, "queued")
        self._ended(self._submitted("Two?")[1])
        asked = {(one.method, one.path) for one in self.remote.requests}
        cancelled, file = (one["file"] for one in self.remote.batches.values())
        self.assertEqual(
            {one for one in asked if "batch_1" not in one[1] and cancelled not in one[1]},
            {
                ("POST", "/upload/v1beta/files"),
                ("POST", "/v1beta/openai/batches"),
                ("GET", "/v1beta/batches/batch_2"),
                ("GET", "/download/v1beta/files/results-batch_2:download"),
                ("DELETE", f"/v1beta/{file}"),
                ("DELETE", "/v1beta/files/results-batch_2"),
                ("DELETE", "/v1beta/batches/batch_2"),
            },
        )
        self.assertIn(("POST", "/v1beta/batches/batch_1:cancel"), asked)
        for one in self.remote.requests:
            self.assertNotIn(API_KEY, f"{one.path} {one.query} {one.body}")
            names = {name for name, value in one.headers.items() if API_KEY in value}
            is_compatible = one.path.startswith("/v1beta/openai/")
            self.assertEqual(names, {"authorization" if is_compatible else "x-goog-api-key"})

    def test_an_upload_that_broke_off_is_done_again_under_another_name(self):
        """Google may have taken the name, and have no file."""
        batch = self._batch_of(self._economy("One?", "Two?"))
        self.remote.fault(half)
        self._go_on(batch)
        self.assertEqual((batch.state, self.remote.batches), ("submitting", {}))
        (taken,) = self.remote.files
        self._go_on(batch)
        self.assertEqual((batch.state, batch.error_message), ("running", False))
        self.assertNotEqual(self.remote.batches["batch_1"]["file"], taken)

    def _without_room(self, *prompts):
        """Return jobs, and their batch, whose file is there as Google had no room for it."""
        jobs = self._economy(*prompts)
        batch = self._batch_of(jobs)
        self.remote.fault(None, refusal(429, {}))
        self._go_on(batch)
        self.assertEqual((batch.state, self.remote.batches), ("collected", {}))
        self.assertEqual(len(self.remote.files), 1)
        batch.pauses_until = False
        return jobs, batch

    def test_a_file_that_is_there_is_used(self):
        _jobs, batch = self._without_room("One?", "Two?")
        self._go_on(batch)
        self.assertEqual((batch.state, batch.error_message), ("running", False))
        self.assertEqual((len(self.remote.files), self.remote.count("POST", "/upload")), (1, 2))

    def test_a_file_with_what_nobody_wants_any_more_is_not(self):
        jobs, batch = self._without_room("One?", "Two?")
        jobs[0].action_cancel()
        self._go_on(batch)
        self.assertEqual((batch.state, batch.error_message), ("running", False))
        self.assertEqual(len(self.remote.files), 2)
        (asked,) = self.remote.batches["batch_1"]["requests"]
        self.assertEqual(asked[1], "Two?")

    def test_a_batch_of_others_without_a_file_is_none_of_ours(self):
        batch = self._batch_of(self._economy("One?"))
        self.remote.refuse("transient")
        self._go_on(batch)
        told = {
            "state": "BATCH_STATE_RUNNING",
            "createTime": datetime.now(UTC).isoformat(),
            "batchStats": {"requestCount": "1"},
        }
        for where in ({"inputConfig": {"requests": {}}}, {"output": {"inlinedResponses": {}}}):
            with self.subTest(where):
                operation = {"name": "batches/other", "metadata": {**told, **where}}
                self.assertTrue(google_batches.has_no_file(operation))
        self.remote.answer_instead(json_reply({"operations": [operation]}))
        self._go_on(batch)
        self.assertEqual((batch.state, batch.external_id), ("running", "batch_1"))

    def test_a_file_that_is_called_otherwise_begins_no_batch(self):
        batch = self._batch_of(self._economy("One?"))
        self.remote.answer_instead(json_reply({"file": {"name": "files/other"}}))
        self._go_on(batch)
        self.assertEqual((batch.state, batch.error_type), ("submitting", "unreadable"))
        self.assertFalse(self.remote.count("POST", "/openai/batches"))

    def test_a_list_that_names_no_files_is_known_by_the_answers(self):
        self.remote.tells_file = False
        self.addCleanup(delattr, self.remote, "tells_file")
        jobs = self._economy("One?", "Two?")
        batch = self._batch_of(jobs)
        self.remote.lose_reply()
        for _step in range(3):
            self._go_on(batch)
            self.assertEqual((batch.state, len(self.remote.batches)), ("submitting", 1))
        self._ended(batch)
        self._go_on(batch)
        self.assertEqual((batch.state, jobs.mapped("state")), ("done", ["completed"] * 2))

    def test_while_the_list_is_not_seen_to_its_end_nothing_is_submitted_again(self):
        batch = self._batch_of(self._economy("One?"))
        for number in range(4):
            self.remote.take([(f"other-{number}", "Other?")])
        self.remote.lose_reply()
        self._go_on(batch)
        self.remote.answer_instead(json_reply({"message": "Welcome"}))
        self._go_on(batch)
        self.assertEqual((batch.state, batch.error_type), ("submitting", "unreadable"))
        with patch.object(llm_provider, "PAGES", 2):
            self._go_on(batch)
        self.assertEqual((batch.state, batch.error_type), ("submitting", "overloaded"))
        self._go_on(batch)
        self.assertEqual((batch.state, batch.external_id), ("running", "batch_5"))
        self.assertEqual(len(self.remote.batches), 5)

    def test_results_that_come_later_are_waited_for(self):
        jobs, batch = self._submitted("One?")
        self.remote.batches["batch_1"]["state"] = "succeeded"  # without a file
        self._go_on(batch)
        self.assertEqual((batch.state, jobs.batch_lane), ("running", True))
        self.remote.batches["batch_1"]["state"] = "ended"
        self._go_on(batch)
        self.assertEqual((batch.state, jobs.state), ("done", "completed"))

    def test_of_what_expired_the_jobs_run_by_themselves(self):
        jobs, batch = self._submitted("One?", "Two?")
        self._ended(batch, "expired")
        self.assertEqual((batch.state, batch.returned_count), ("done", 2))
        self.assertFalse(any(jobs.mapped("batch_lane")))

    def test_what_stays_keeps_no_other(self):
        """Names of files with results are longer than Google itself allows."""
        _jobs, batch = self._submitted("One?")
        # It is asked about, read and asked about; then come its two files.
        self.remote.fault(None, None, None, refusal(404, {}), refusal(400, {}))
        self._ended(batch)
        self.assertEqual(batch.state, "done")
        self.assertEqual(self.remote.deleted, {"batches/batch_1"})

    def test_an_id_is_known_with_its_prefix_and_leads_nowhere_else(self):
        jobs, batch = self._submitted("One?")
        batch.external_id = "batches/../files/x"
        self._go_on(batch)
        self.assertEqual(self.remote.requests[-1].path, "/v1beta/batches/..%2Ffiles%2Fx")
        batch.external_id = "batches/batch_1"
        self._ended(batch)
        self.assertEqual((batch.state, jobs.state), ("done", "completed"))

    def test_only_addresses_of_its_shape_are_taken_for_it(self):
        root = "https://generativelanguage.googleapis.com"
        for api_base, known in (
            (f"{root}/v1beta/openai", root),
            (f"{root}/v1beta/openai/", root),
            ("https://name.openai.azure.com/openai/v1", None),
            ("https://api.openai.com/v1", None),
            (False, None),
        ):
            with self.subTest(api_base):
                self.assertEqual(google_batches.root_of(api_base), known)

    def test_what_is_written_otherwise_is_read_as_well(self):
        told = {"state": "JOB_STATE_SUCCEEDED", "createTime": "2026-11-29T00:00:01.123456789Z"}
        results = {"responsesFile": "files/of-it"}
        kept = {"metadata": {**told, "output": results}}
        for operation in ({"response": results}, kept, {**kept, "response": {"@type": "Some"}}):
            with self.subTest(operation):
                named = {"name": "batches/one", "metadata": told, **operation}
                batch = google_batches.read_operation(named)
                self.assertEqual((batch["id"], batch["status"]), ("one", "completed"))
                self.assertEqual(batch["output_file_id"], "files/of-it")
                self.assertEqual(batch["created_at"], 1795910401)

    def test_an_error_without_a_state_is_an_end(self):
        operation = {"name": "batches/one", "done": True, "error": {"message": "No."}}
        self.assertEqual(google_batches.read_operation(operation)["status"], "failed")
