from odoo.addons.llm_generate_job.exceptions import BadRequestError
from odoo.addons.llm_generate_job.tests.common import LlmGenerationCommon


class TestBatchWithoutMessages(LlmGenerationCommon):
    """A batch whose jobs keep their answers shares one conversation, in which nothing is said."""

    def setUp(self):
        super().setUp()
        self.told = []
        told = self.told

        def callback(_records, batch):
            told.append(batch.job_ids.sorted("id").mapped("output_text"))

        self.enterContext(self._offered("res.partner", _on_generated=callback))

    def _batch(self, inputs=("a", "b"), **values):
        job = self.env["llm.generation.job"].with_user(self.user)
        on_done = (self.user.partner_id, "_on_generated")
        values = {"model": self.direct_model, "post": False, "on_done": on_done, **values}
        return job.create_batch(inputs, **values).with_env(self.env)

    def _answer(self, batch):
        self._process_queue(self.direct)
        return batch.job_ids.sorted("id")

    def test_its_jobs_share_a_conversation_that_nobody_sees(self):
        batch = self._batch(name="Texts")
        jobs = self._answer(batch)
        self.assertEqual((jobs.thread_id.name, jobs.thread_id.active), ("Texts", False))
        self.assertEqual(jobs.thread_id.user_id, self.user)
        self.assertEqual(jobs.mapped("state"), ["completed"] * 2)
        self.assertEqual(self.told, [["Hello", "Hello"]])
        asked = [messages[-1]["content"] for messages in self.service.calls["chat"]]
        self.assertEqual(asked, ["a", "b"])
        domain = [("model", "=", "llm.thread"), ("res_id", "=", jobs.thread_id.id)]
        self.assertFalse(self.env["mail.message"].search(domain))

    def test_conversations_may_be_given(self):
        thread = self._create_thread(self.direct_model)
        batch = self._batch(model=None, threads=thread)
        self.assertEqual((self._answer(batch).thread_id, thread.active), (thread, True))

    def test_they_run_side_by_side(self):
        jobs = self._batch().job_ids
        claims, _waits = self._engine()._claim(5, queue_ids=self.direct_queue.ids)
        self.assertEqual({claim.job_id for claim in claims}, set(jobs.ids))

    def test_texts_are_kept_as_the_batch_says(self):
        for keep_texts, left in ((None, 0), (True, 2), (False, 0)):
            with self.subTest(keep_texts=keep_texts):
                batch = self._batch(keep_texts=keep_texts)
                jobs = self._answer(batch)
                texts = ["Hello"] * 2 if keep_texts is not False else [""] * 2
                self.assertEqual(jobs.mapped("output_text"), texts)
                self.assertEqual(bool(jobs[0].generation_inputs), keep_texts is not False)
                self.assertEqual(self.told.pop(), ["Hello", "Hello"])
                jobs.completed_at = batch.done_at = "2020-01-01 00:00:00"
                thread = jobs.thread_id
                self.env["llm.generation.job"].cleanup_old_jobs()
                self.assertEqual(len(jobs.exists()), left)
                self.assertEqual(bool(thread.exists()), bool(left))

    def test_a_conversation_that_is_used_otherwise_stays(self):
        batch = self._batch()
        jobs = self._answer(batch)
        thread = jobs.thread_id
        thread.message_post(body="Hello", llm_role="user")
        jobs.completed_at = batch.done_at = "2020-01-01 00:00:00"
        self.env["llm.generation.job"].cleanup_old_jobs()
        self.assertEqual((batch.exists().ids, thread.exists()), ([], thread))

    def test_what_failed_still_knows_what_was_asked(self):
        self.service.chunks = [BadRequestError("No")]
        batch = self._batch(["a"], keep_texts=False)
        job = self._answer(batch)
        self.assertEqual((job.state, job.input_text, batch.state), ("failed", "a", "done"))
        self.service.chunks = [{"content": "Hello"}]
        job.with_user(self.manager).action_retry()
        self._answer(batch)
        # The callback was called before, and has not read it.
        self.assertEqual((job.state, job.input_text, job.output_text), ("completed", "a", "Hello"))

    def test_what_a_broken_callback_has_not_read_stays(self):
        def callback(_records, batch):
            raise ValueError

        logger = "odoo.addons.llm_generate_job_batch.models.llm_generation_engine"
        with (
            self._offered("res.partner", _on_generated=callback),
            self.assertLogs(logger, "ERROR"),
        ):
            jobs = self._answer(self._batch(keep_texts=False))
        self.assertEqual(jobs.mapped("output_text"), ["Hello"] * 2)
