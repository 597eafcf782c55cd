from odoo.exceptions import UserError

from .common import LlmGenerationCommon

SCHEMA = {
    "type": "object",
    "required": ["prompt"],
    "properties": {
        "prompt": {"type": "string", "minLength": 1},
        "size": {"type": "object", "properties": {"width": {"type": "integer", "maximum": 64}}},
    },
    "additionalProperties": False,
}


class TestLlmGenerationRequest(LlmGenerationCommon):
    def setUp(self):
        super().setUp()
        self.native_model.details = {"input_schema": SCHEMA}

    def test_good_inputs_are_queued(self):
        job = self._create_job(generation_inputs={"prompt": "A cat", "size": {"width": 64}})
        job.action_queue()
        self.assertEqual(job.state, "queued")

    def test_the_defaults_of_a_page_are_none_of_a_job(self):
        page = self._create_thread().with_user(self.user).with_context(
            default_priority=1, default_post=False, default_scheduled_at="2099-01-01"
        )  # fmt: skip
        job = page.enqueue_generation(inputs={"prompt": "A cat"})
        self.assertRecordValues(job, [{"priority": 10, "post": True, "scheduled_at": False}])

    def test_bad_inputs_are_refused_with_every_path_and_reason(self):
        job = self._create_job(generation_inputs={"prompt": 7, "size": {"width": 65}, "x": 1})
        sentence = self._refusal(job.action_queue)
        self.assertIn("Native model", sentence)
        self.assertIn("inputs.prompt: 7 is not of type 'string'", sentence)
        self.assertIn("inputs.size.width: 65 is greater than the maximum of 64", sentence)
        self.assertIn("'x' was unexpected", sentence)
        self.assertEqual(job.state, "draft")

    def test_what_a_question_to_a_model_of_media_brings_is_judged_too(self):
        self.native_model.model_use = "image_generation"
        thread = self._create_thread()
        for inputs, reason in (
            ({"prompt": "A cat", "size": {"width": 65}}, "inputs.size.width: 65 is greater"),
            (None, "'prompt' is a required property"),
            ({"prompt": "A cat"}, ""),
        ):
            with self.subTest(inputs):
                question = inputs and thread.message_post(
                    body="A cat", llm_role="user", body_json=inputs
                )
                job = self._create_job(
                    thread_id=thread.id,
                    generation_inputs=False,
                    input_message_id=question and question.id,
                )
                if reason:
                    self.assertIn(reason, self._refusal(job.action_queue))
                else:
                    job.action_queue()
                self.assertEqual(job.state, "draft" if reason else "queued")

    def test_one_bad_job_of_many_queues_none(self):
        good = self._create_job(generation_inputs={"prompt": "A cat"})
        bad = self._create_job(generation_inputs={"size": {}})
        self._refusal((good | bad).action_queue)
        self.assertEqual((good | bad).mapped("state"), ["draft", "draft"])

    def test_a_refused_request_leaves_nothing_half_way(self):
        thread = self._create_thread()
        refusal = self._refusal(thread.enqueue_generation, "Draw", inputs={"prompt": 7})
        self.assertIn("is not of type", refusal)
        self.assertFalse(thread.generation_job_ids)
        self.assertFalse(thread.message_ids.filtered("llm_role"))

    def test_inputs_that_are_too_large_are_refused(self):
        limit = "odoo.addons.llm_generate_job.models.llm_generation_job.INPUT_LIMIT"
        with self._patched(limit, 100):
            fits = self._create_job(generation_inputs={"prompt": "x" * 80})
            fits.action_queue()
            job = self._create_job(generation_inputs={"prompt": "x" * 90})
            self.assertIn("larger than 100 bytes", self._refusal(job.action_queue))

    def test_a_model_without_a_schema_takes_anything(self):
        for details in (False, {}, {"input_schema": False}, ["no dict"]):
            with self.subTest(details=details):
                self.native_model.details = details
                job = self._create_job(generation_inputs={"anything": [1, {"goes": None}]})
                job.action_queue()
                self.assertEqual(job.state, "queued")

    def test_a_schema_that_is_none_refuses_what_it_cannot_judge(self):
        self.native_model.details = {"input_schema": {"type": "objekt"}}
        job = self._create_job(generation_inputs={"prompt": "A cat"})
        self.assertIn("input_schema: ", self._refusal(job.action_queue))

    # === DIRECT GENERATION === #

    def test_a_prompt_becomes_the_question(self):
        job = self._create_job("queued", self.direct_model, generation_inputs={"prompt": "Why?"})
        self._process_queue(self.direct)
        self.assertEqual(job.state, "completed", job.error_message)
        self.assertIn("Why?", job.input_message_id.body)
        self.assertEqual(job.input_message_id.author_id, self.user.partner_id)

    def test_a_question_is_not_asked_twice(self):
        thread = self._create_thread(self.direct_model)
        job = thread.enqueue_generation("Why?", inputs={"prompt": "Why?"})
        self._process_queue(self.direct)
        questions = thread.message_ids.filtered(lambda message: message.llm_role == "user")
        self.assertEqual(questions, job.input_message_id)

    def _needs_our_media(self):
        is_theirs = hasattr(self.env["llm.thread"], "_generate_response")
        self._needs(not is_theirs, "that leaves pictures and the like to us")

    def test_a_model_of_media_answers_with_files(self):
        self._needs_our_media()
        self.direct_model.model_use = "image_generation"
        asked = []

        def generate(_provider, inputs, **_kwargs):
            asked.append(inputs)
            return {"seed": 7}, [
                {
                    "url": "https://example.com/cat.png",
                    "filename": "cat.png",
                    "content_type": "image/png",
                },
                {"url": "javascript:alert(1)", "filename": "evil"},
            ]

        with self._offered(fakedirect_generate=generate):
            job = self._create_job("queued", self.direct_model, generation_inputs={"prompt": "Cat"})
            self._process_queue(self.direct)
        self.assertEqual(job.state, "completed", job.error_message)
        self.assertEqual(asked, [{"prompt": "Cat"}])
        self.assertIn('src="https://example.com/cat.png"', job.output_message_id.body)
        self.assertEqual(job.output_message_id.attachment_ids.url, "https://example.com/cat.png")
        self.assertNotIn("javascript", job.output_message_id.body)
        self.assertNotIn("evil", job.output_message_id.body)  # not left to the sanitizer alone
        self.assertEqual(job.output_message_id.body_json, {"seed": 7})

    def test_a_file_that_comes_with_the_answer_is_shown_or_saved(self):
        self._needs_our_media()
        self.direct_model.model_use = "image_generation"
        data = "SGVsbG8="

        def generate(_provider, _inputs, **_kwargs):
            return {}, [
                {"url": f"data:image/png;base64,{data}", "filename": "cat.png"},
                {"url": f"data:text/html;base64,{data}", "filename": "page.html"},
                {"url": f"data:image/svg+xml;base64,{data}", "filename": "cat.svg"},
            ]

        with self._offered(fakedirect_generate=generate):
            # Of who may write pages, Odoo keeps them as what they are.
            job = self._create_job(
                "queued",
                self.direct_model,
                user=self.env.ref("base.user_admin"),
                generation_inputs={"prompt": "Cat"},
            )
            self._process_queue(self.direct)
        self.assertEqual(job.state, "completed", job.error_message)
        files = job.output_message_id.attachment_ids.sorted("id")
        self.assertEqual(files.mapped("raw"), [b"Hello"] * 3)
        self.assertEqual(files[0].mimetype, "image/png")
        for file in files[1:]:  # as what its contents are
            self.assertNotRegex(file.mimetype, "html|svg|xml")
        self.assertIn(f'<img src="/web/content/{files[0].id}"', job.output_message_id.body)

    def test_the_inputs_of_a_job_are_those_of_its_question(self):
        """The family's generation reads them of the message, when it is executed."""
        self.direct_model.model_use = "image_generation"
        seen = []

        def generate_response(thread, question):
            seen.append((question.body_json, question.llm_role))
            message = thread.message_post(body="Drawn", llm_role="assistant")
            yield {"type": "message_create", "message": message.to_store_format()}

        thread = self._create_thread(self.direct_model)
        with self._offered("llm.thread", _generate_response=generate_response):
            thread.enqueue_generation("A gray cat")
            thread.enqueue_generation("A cat", inputs={"size": 7})
            thread.enqueue_generation(inputs={"prompt": "A dog"})
            thread.enqueue_generation(inputs=["A cow"])
            self._process_queue(self.direct)
        self.assertEqual(seen, [
            ({"prompt": "A gray cat"}, "user"),
            ({"prompt": "A cat", "size": 7}, "user"),
            ({"prompt": "A dog"}, "user"),
            (["A cow"], "user"),
        ])  # fmt: skip

    def test_a_question_in_words_is_the_prompt_of_a_model_of_media(self):
        self._needs_our_media()
        self.direct_model.model_use = "generation"
        asked = []

        def generate(_provider, inputs, **_kwargs):
            asked.append(inputs)
            return {}, []

        with self._offered(fakedirect_generate=generate):
            job = self._create_thread(self.direct_model).enqueue_generation("A gray cat")
            self._process_queue(self.direct)
        self.assertEqual(job.state, "completed", job.error_message)
        self.assertEqual(asked, [{"prompt": "A gray cat"}])

    def test_the_familys_own_media_generation_is_used_where_it_is(self):
        self.direct_model.model_use = "image_generation"

        def generate_response(thread, question):
            message = thread.message_post(body=f"Drew {question.preview}", llm_role="assistant")
            yield {"type": "message_create", "message": message.to_store_format()}

        with self._offered("llm.thread", _generate_response=generate_response):
            job = self._create_thread(self.direct_model).enqueue_generation("a cat")
            self._process_queue(self.direct)
        self.assertEqual(job.state, "completed", job.error_message)
        self.assertIn("Drew a cat", job.output_message_id.body)

    def test_inputs_that_cannot_be_stored_are_refused(self):
        job = self._create_job()
        for text in ("\x00", "\\\x00", "\ud800", float("nan")):
            with self.subTest(repr(text)), self.assertRaisesRegex(UserError, "cannot be kept"):
                job.generation_inputs = {"prompt": text}
        deep = []
        for _level in range(20_000):
            deep = [deep]
        with self.assertRaisesRegex(UserError, "cannot be kept"):
            job.write({"generation_inputs": {"prompt": deep}})
        job.generation_inputs = {"prompt": "\\u0000"}
        self.env.flush_all()
        self.assertEqual(job.generation_inputs, {"prompt": "\\u0000"})

    def test_a_schema_may_be_a_text_and_be_none(self):
        for text, refusal in (('{"required": ["size"]}', "'size' is a required"), ("x", "schema")):
            with self.subTest(text):
                self.native_model.details = {"input_schema": text}
                self.assertIn(refusal, self._refusal(self._create_job().action_queue))
