from datetime import timedelta

from odoo import fields

from ..exceptions import BadRequestError, RateLimitedError, TransientError
from .common import LlmGenerationCommon, posted

LOGGER = "odoo.addons.llm_generate_job.engine.engine"


class TestLlmThreadHook(LlmGenerationCommon):
    def setUp(self):
        super().setUp()
        self.called = []

        def hook(thread, job):
            self.called.append((thread.id, job.id, job.state, job.env.user, job.env.su))

        self.enterContext(self._hooked(hook))

    def _hooked(self, hook):
        return self._offered("llm.thread", _on_generation_job_done=hook)

    def _states(self):
        return [state for _thread, _job, state, _user, _su in self.called]

    def test_it_is_called_once_when_a_job_ends_as_its_owner(self):
        job = self._create_job("queued")
        self._process_queue()
        self.assertEqual(self.called, [])
        self.service.answers["check"] = [posted("Hi")]
        job.check_status()
        job.check_status()
        self.assertEqual(self.called, [(job.thread_id.id, job.id, "completed", self.user, False)])

    def test_each_end_is_told(self):
        for end, state in (
            ("action_complete", "completed"),
            ("action_fail", "failed"),
            ("action_cancel", "cancelled"),
        ):
            with self.subTest(end=end):
                self.called.clear()
                getattr(self._create_job("running"), end)()
                self.assertEqual(self._states(), [state])

    def test_a_job_that_waits_for_its_retry_has_not_ended(self):
        self.service.answers["create"] = [TransientError("Oops")]
        job = self._create_job("queued", max_retries=1)
        self._process_queue()
        self.assertTrue(job.retry_at)
        self.assertEqual(self.called, [])
        job.retry_at = fields.Datetime.now() - timedelta(seconds=5)
        self.env["llm.generation.queue"]._auto_retry_failed_jobs()
        self._process_queue()
        self.assertEqual(self._states(), ["failed"])

    def test_a_job_that_waits_for_a_rate_limit_has_not_ended(self):
        self.service.answers["create"] = [RateLimitedError("Slow")]
        self._create_job("queued")
        self._process_queue()
        self.assertEqual(self.called, [])

    def test_a_retry_that_gives_way_to_a_twin_is_an_end(self):
        self.service.answers["create"] = [TransientError("Oops"), "ext-1"]
        job = self._create_job("queued", identity_key="one")
        self._process_queue()
        self._create_job("queued", identity_key="one")
        job.retry_at = fields.Datetime.now() - timedelta(seconds=5)
        self.env["llm.generation.queue"]._auto_retry_failed_jobs()
        self.assertEqual([call[1:3] for call in self.called], [(job.id, "failed")])

    def test_a_second_life_has_a_second_end(self):
        self.service.answers["create"] = [BadRequestError("What"), posted("Hi")]
        job = self._create_job("queued")
        self._process_queue()
        job.action_retry()
        self._process_queue()
        self.assertEqual(self._states(), ["failed", "completed"])

    def test_a_hook_that_fails_does_not_lose_the_job(self):
        def broken(thread, job):
            thread.name = "Half done"
            self.env.flush_all()
            raise errors.pop()

        errors = [ValueError(), SystemExit()]
        while errors:
            self._check_that_it_does_not_lose_the_job(broken)

    def _check_that_it_does_not_lose_the_job(self, broken):
        self.service.answers["create"] = [posted("Hi")]
        job = self._create_job("queued")
        with self._hooked(broken), self.assertLogs(LOGGER, "ERROR") as logs:
            self._process_queue()
        self.assertIn(f"failed on job {job.id}", logs.output[0])
        self.assertEqual(job.state, "completed")
        self.assertIn("Hi", job.output_message_id.body)
        self.assertEqual(job.thread_id.name, "Thread")

    def test_a_hook_may_queue_the_next_job(self):
        def chain(thread, job):
            if len(thread.generation_job_ids) < 3:
                thread.enqueue_generation(f"And after {job.id}?")

        thread = self._create_thread(self.direct_model)
        with self._hooked(chain):
            thread.enqueue_generation("How are you?")
            self.assertEqual(self._process_queue(self.direct), 3)
        self.assertEqual(thread.generation_job_ids.mapped("state"), ["completed"] * 3)
