"""The contract against servers that are not ours: `make test` starts them."""

import time
import unittest

from odoo.addons.llm_generate_job.tests.common import LlmGenerationCommon
from odoo.addons.llm_generate_job.tests.contract import DirectContract
from odoo.addons.llm_generate_job.tests.contract_http import HttpContract

from .common import API_KEY, chat_patience
from .foreign_servers import MOCK_BASE, MODEL_BASE, MODEL_NAME, MockRemote, ModelRelay


class ForeignCommon(LlmGenerationCommon):
    @classmethod
    def _connect(cls, api_base, model_name):
        cls.provider, cls.model = cls._create_provider("Foreign", "openai")
        cls.provider.write({"api_base": api_base, "api_key": API_KEY})
        cls.model.name = model_name

    def patience(self):
        return chat_patience()


@unittest.skipUnless(MOCK_BASE, "no mock is served")
class TestMockContract(HttpContract, DirectContract, ForeignCommon):
    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.remote = MockRemote(MOCK_BASE)
        cls._connect(MOCK_BASE, "gpt-4o")

    def test_faults_of_every_kind_are_survived_as_they_should_be(self):
        # But for nonsense in a stream: a client that asks again looks to it like one that does not.
        remote = self.remote
        orders = [
            lambda: remote.order("fail", status=500),
            lambda: remote.order("fail", status=529),
            lambda: remote.order("fail", status=409),
            lambda: remote.order("stream_fault", kind="disconnect", after_chunks=0),
            lambda: remote.order("stream_fault", kind="disconnect", after_chunks=3),
            remote.break_off,
            lambda: remote.order("slow_first_token", seconds=0.2),
        ]
        for number, order in enumerate(orders):
            with self.subTest(number):
                order()
                job = self._ask(generation_inputs={"prompt": f"Question {number}"})
                time.sleep(1)  # what it asks for with a refusal, if it says nothing else
                if job.state != "completed":
                    self._pass_time(job)
                self._assert_answered(job)

        self.assertFalse(remote.findings)
        self.assertEqual(len(remote.calls), 2 * len(orders) - 1)

    def test_a_rate_limit_is_waited_for_as_long_as_it_says(self):
        self.remote.order("fail", status=429, retry_after=1.5)
        jobs = self._ask()
        jobs |= self._ask()
        self.assertEqual(len(self.remote.calls), 1)

        while self.provider_queue.paused_until:
            time.sleep(0.2)
            self._process_queue(self.provider)
            if set(jobs.mapped("state")) == {"completed"}:
                break

        for job in jobs:
            self._assert_answered(job)
            self.assertEqual(job.retry_count, 0)
        self.assertFalse(self.remote.findings)
        self.assertEqual(len(self.remote.calls), 3)

    def test_a_context_that_is_too_long_is_final(self):
        code = "context_length_exceeded"
        self.remote.order("fail", status=400, code=code, message="Too long.")

        job = self._ask()

        self.assertRecordValues(job, [{"state": "failed", "error_type": "content_refused"}])
        self.assertFalse(job.retry_at)

    def test_usage_is_noted(self):
        job = self._ask()

        self.assertGreater(job.completion_tokens, 0)


@unittest.skipUnless(MODEL_BASE, "no model is served")
class TestModelContract(HttpContract, DirectContract, ForeignCommon):
    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.remote = ModelRelay()
        cls.addClassCleanup(cls.remote.close)
        cls._connect(f"{cls.remote.url}/v1", MODEL_NAME)

    def _assert_answered(self, job):
        body = job.output_message_id.body or ""
        self.remote.text = next((word for word in self.remote.words if word in body), "no answer")
        return super()._assert_answered(job)


@unittest.skipUnless(MODEL_BASE, "no model is served")
class TestModel(ForeignCommon):
    """The model, with nothing between it and us."""

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls._connect(MODEL_BASE, MODEL_NAME)

    def test_it_answers(self):
        job = self._create_job("queued", model=self.model)

        self._process_queue(self.provider)

        self.assertRecordValues(job, [{"state": "completed", "error_message": False}])
        self.assertTrue(job.output_message_id.body)
        self.assertGreater(min(job.prompt_tokens, job.completion_tokens), 0)

    def test_a_question_that_is_too_long_for_it_is_final(self):
        inputs = {"prompt": "An island. " * 5000}
        job = self._create_job("queued", model=self.model, generation_inputs=inputs)

        self._process_queue(self.provider)

        self.assertRecordValues(job, [{"state": "failed", "error_type": "content_refused"}])
        self.assertFalse(job.retry_at)
        self.assertTrue(job.error_message)
