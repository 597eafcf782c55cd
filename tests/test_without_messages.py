from odoo.exceptions import AccessError, UserError
from odoo.modules.migration import load_script
from odoo.tools import file_path

from ..exceptions import TransientError
from ..runner import thread_lock
from .common import PROMPT, LlmGenerationCommon, posted

KEY = "sk-of-the-provider-12345"


class TestWithoutMessages(LlmGenerationCommon):
    """An answer that goes to a hook, a field or a batch is kept by its job, and posted nowhere."""

    def setUp(self):
        super().setUp()
        self.thread = self._create_thread(self.direct_model)

    def _asked(self, prompt=PROMPT, thread=None, **values):
        return (thread or self.thread).enqueue_generation(prompt, post=False, **values)

    def _run(self):
        return self._process_queue(self.direct)

    def _messages(self, thread=None):
        domain = [("model", "=", "llm.thread"), ("res_id", "=", (thread or self.thread).id)]
        return self.env["mail.message"].search(domain)

    def test_the_answer_is_kept_by_the_job(self):
        before = self._messages()
        self.service.chunks.append({"finish_reason": "stop"})
        job = self._asked("What is it?")
        self._run()
        self.assertRecordValues(
            job,
            [
                {
                    "state": "completed",
                    "input_text": "What is it?",
                    "output_text": "Hello",
                    "finish_reason": "stop",
                    "prompt_tokens": 7,
                    "completion_tokens": 2,
                    "input_message_id": False,
                    "output_message_id": False,
                }
            ],
        )
        self.assertRecordValues(job.attempt_ids, [{"outcome": "completed", "prompt_tokens": 7}])
        self.assertEqual(self._messages(), before)
        self.assertEqual(self.service.calls["chat"][0][-1]["content"], "What is it?")

    def test_a_posted_job_tells_its_texts_by_the_same_fields(self):
        job = self.thread.enqueue_generation("What is it?")
        self._run()
        self.assertEqual((job.input_text, job.output_text), ("What is it?", "Hello"))
        self.assertFalse(job.sudo().output)

    def test_nothing_of_the_conversation_is_told(self):
        self.thread.message_post(body="Hello there", llm_role="user")

        def told(_thread):
            return [{"role": "system", "content": "Be brief"}]

        with self._offered("llm.thread", get_prepend_messages=told):
            self._asked("What is it?")
            self._run()
        (messages,) = self.service.calls["chat"]
        self.assertEqual(
            [(message["role"], message["content"]) for message in messages],
            [("system", "Be brief"), ("user", "What is it?")],
        )

    def test_jobs_of_one_thread_run_side_by_side(self):
        jobs = self._asked("a") + self._asked("b")
        claims, _waits = self._engine()._claim(5, queue_ids=self.direct_queue.ids)
        self.assertEqual({claim.job_id for claim in claims}, set(jobs.ids))

    def test_no_lock_of_the_thread_is_waited_for(self):
        job = self._asked()
        with thread_lock.hold(self.env.cr.dbname, self.thread.id) as unlock:
            self.assertTrue(unlock)
            self._run()
        self.assertEqual(job.state, "completed", job.error_message)

    def test_what_needs_messages_is_refused(self):
        tool = self.env["llm.tool"].create({
            "name": "t",
            "description": "t",
            "implementation": self._tool_implementation(),
        })
        with_tool = self._create_thread(self.direct_model, tool_ids=[(4, tool.id)])
        media = self.direct_model.copy({"model_use": "image_generation"})
        file = self.env["ir.attachment"].with_user(self.user).create({"name": "a.txt"})
        for words, how in (
            ("Files and tools need messages", {"thread": with_tool}),
            ("Files and tools need messages", {"model_id": media.id}),
            ("A file goes with a message only", {"attachment_ids": file.ids}),
            ("nothing to answer", {"prompt": None}),
            ("give them a prompt", {"prompt": None, "inputs": {"temperature": 0}}),
        ):
            with self.subTest(words, **how):
                self.assertIn(words, self._refusal(self._asked, **how))
        message = self.thread.message_post(body="a", llm_role="user")
        job = self._create_job(
            thread_id=self.thread.id, post=False, input_message_id=message.id, user=self.user
        )
        self.assertIn("give them a prompt", self._refusal(job.action_queue))

    def test_a_service_that_answers_in_conversations_only_is_not_asked(self):
        def chat(_provider, messages, model=None, **_kwargs):
            yield {"content": str(messages)}

        with self._offered(fakedirect_chat=chat):
            self.assertIn("answers in conversations only", self._refusal(self._asked))
        self.assertTrue(self._asked())

    def test_half_an_answer_is_none(self):
        self.service.chunks = [{"content": "Half of"}, TransientError("The line is dead")]
        job = self._asked(max_retries=0)
        self._run()
        self.assertEqual((job.state, job.output_text), ("failed", ""))
        self.assertTrue(job.completion_tokens)
        job.sudo().max_retries = 1
        self.service.chunks = [{"content": "Whole"}]
        job.action_retry()
        self._run()
        self.assertEqual((job.state, job.output_text), ("completed", "Whole"))

    def test_what_breaks_off_is_no_fault_of_the_request(self):
        for first, error in (("Half of", "provider_failed"), (None, "bad_request")):
            self.service.chunks = [{"content": first}] * bool(first) + [UserError("Broken")]
            job = self._asked(max_retries=0)
            self._run()
            self.assertEqual((job.state, job.error_type), ("failed", error))

    def test_an_error_within_the_answer_is_no_answer(self):
        for chunks in ([{"content": "a"}, {"error": "Overheated"}], [{"content": " \n"}], []):
            with self.subTest(chunks):
                self.service.chunks = chunks
                job = self._asked(max_retries=0)
                self._run()
                self.assertEqual((job.state, job.output_text), ("failed", ""))

    def test_a_cancelled_job_keeps_nothing(self):
        job = self._asked()
        cancel = self.env["llm.generation.job"].browse(job.id).action_cancel
        self.service.chunks = [{"content": "a" * 4000}, cancel, {"content": "b" * 4000}, self.fail]
        self._run()
        self.assertEqual((job.state, job.output_text), ("cancelled", ""))

    def test_the_key_of_the_provider_is_in_no_answer(self):
        self.direct.sudo().api_key = KEY

        def chat(provider, messages, model=None, prepend_messages=None, **_kwargs):
            yield {"content": f"It is {provider._read_api_key()}"}

        with self._offered(fakedirect_chat=chat):
            job = self._asked()
            self._run()
        self.assertEqual(job.output_text, "It is [hidden]")

    # === PROVIDERS WITH JOBS OF THEIR OWN === #

    def _answered_by_its_provider(self, answer):
        thread = self._create_thread()
        before = self._messages(thread)
        job = self._asked(thread=thread)
        self.service.answers["create"] = [answer]
        self._process_queue()
        self.assertEqual(self._messages(thread), before)
        return job

    def test_a_provider_with_jobs_returns_the_answer(self):
        job = self._answered_by_its_provider({"state": "completed", "output": "Oak\x00"})
        self.assertEqual((job.state, job.output_text), ("completed", "Oak"))

    def test_what_a_provider_posts_all_the_same_is_taken_over(self):
        job = self._answered_by_its_provider(posted("Made of **oak**"))
        self.assertEqual((job.state, job.output_message_id.id), ("completed", False))
        self.assertEqual(job.output_text, "Made of **oak**")
        self.assertTrue(job.prompt_tokens)
        self.assertTrue(job.completion_tokens)

    def test_a_posted_job_takes_no_text(self):
        thread = self._create_thread()
        job = thread.enqueue_generation(PROMPT)
        self.service.answers["create"] = [{"state": "completed", "output": "Oak"}]
        self._process_queue()
        self.assertFalse(job.sudo().output)

    # === WHO READS IT === #

    def test_who_reads_the_conversation_reads_the_answer(self):
        job = self._asked()
        self._run()
        self.assertEqual(job.with_user(self.manager).output_text, "Hello")
        self.assertFalse(self.env["llm.generation.job"].with_user(self.env.ref("base.public_user")
            ).has_access("read"))  # fmt: skip
        with self.assertRaises(AccessError):
            job.with_user(self.manager).read(["output"])
        # A conversation that was given away since.
        job.sudo().thread_id = self._create_thread(self.direct_model, self.manager)
        self.assertEqual(job.sudo().output_text, "Hello")
        self.assertEqual(job.with_user(self.user).output_text, "")

    def test_a_job_is_found_by_its_texts(self):
        self.service.chunks = [{"content": "It is of 100% oak"}]
        job = self._asked("What is the wardrobe_7 made of?")
        self._run()

        def found(words, user):
            jobs = self.env["llm.generation.job"].with_user(user)
            return jobs.search([("conversation_text", "ilike", words)])

        for words in ("wardrobe_7", "of 100% oak"):
            self.assertEqual(found(words, self.user), job)
        self.assertFalse(found("wardrobeX7", self.user))
        job.sudo().thread_id = self._create_thread(self.direct_model, self.manager)
        self.assertFalse(found("100% oak", self.user))

    def test_the_hook_reads_the_answer(self):
        seen = []

        def done(thread, job):
            seen.append((thread, job.output_text, job.env.user))

        with self._offered("llm.thread", _on_generation_job_done=done):
            self._asked()
            self._run()
        self.assertEqual(seen, [(self.thread, "Hello", self.user)])

    def test_who_follows_is_told_the_answer(self):
        thread = self.thread.with_user(self.user)
        for use_queue in (True, None):
            events = list(thread.generate_response("Hi", use_queue=use_queue, post=False))
            self.assertEqual({event["type"] for event in events}, {"job_status", "done"})
            self.assertEqual((events[-1]["message"], events[-1]["text"]), (False, "Hello"))

    def test_the_chat_page_knows_nothing_of_it(self):
        asked = self.thread.enqueue_generation("What is it?")
        self._run()
        self._asked()
        self.assertEqual(self.thread._newest_generation(), asked)

    # === HOW LONG === #

    def test_it_goes_with_its_job(self):
        jobs = self._asked() + self._asked()
        self._run()
        jobs.sudo().completed_at = "2020-01-01 00:00:00"
        jobs[1].sudo().is_kept = True
        self.assertEqual(jobs.cleanup_old_jobs(7), 1)
        self.assertEqual(jobs.exists(), jobs[1])

    def test_jobs_of_before_post_their_answers(self):
        job = self._create_job()
        self.env.flush_all()
        self.env.cr.execute("ALTER TABLE llm_generation_job DROP COLUMN post")
        path = file_path("llm_generate_job/migrations/19.0.1.2.0/pre-migration.py")
        for _time in range(2):
            load_script(path, "post").migrate(self.env.cr, "19.0.1.1.0")
        self.env.cr.execute("SELECT post FROM llm_generation_job WHERE id = %s", [job.id])
        self.assertEqual(self.env.cr.fetchone(), (True,))
