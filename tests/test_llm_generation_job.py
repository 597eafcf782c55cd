from odoo.exceptions import AccessError, UserError

from ..const import STATES, TRANSITIONS
from .common import LlmGenerationCommon


class TestLlmGenerationJob(LlmGenerationCommon):
    def test_set_state_follows_the_table(self):
        for source, _label in STATES:
            for target, sources in TRANSITIONS.items():
                with self.subTest(source=source, target=target):
                    job = self._create_job(source)
                    moved = job._set_state(target)
                    self.assertEqual(bool(moved), source in sources)
                    self.assertEqual(job.state, target if moved else source)

    def test_a_native_job_is_submitted_polled_and_completed(self):
        job = self._create_job("queued")
        self.assertEqual(self._process_queue(), 1)
        self.assertEqual((job.state, job.external_job_id), ("running", "ext-1"))

        def answer(job):
            message = job.thread_id.message_post(body="Hi", llm_role="assistant", author_id=False)
            return {"state": "completed", "output_message_id": message.id, "usage": {"prompt_tokens": 3}}

        self.service.answers["check"] = [answer]
        job.check_status()
        self.assertEqual(job.state, "completed")
        self.assertIn("Hi", job.output_message_id.body)
        self.assertEqual(job.attempt_ids.outcome, "completed")
        self.assertEqual(job.prompt_tokens, 3)

    def test_a_direct_job_answers_in_the_thread(self):
        thread = self._create_thread(self.direct_model)
        job = thread.enqueue_generation("How are you?")
        self._process_queue(self.direct)
        self.assertEqual(job.state, "completed", job.error_message)
        self.assertIn("Hello", job.output_message_id.body)
        self.assertEqual((job.prompt_tokens, job.completion_tokens), (7, 2))

    def test_generate_response_yields(self):
        thread = self._create_thread(self.direct_model)
        events = list(thread.generate_response("How are you?", use_queue=True))
        self.assertEqual(events[-1]["type"], "done", events)
