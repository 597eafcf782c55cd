from datetime import timedelta
from unittest.mock import patch

from odoo.addons.llm_generate_job.tests.common import LlmGenerationCommon
from odoo.addons.llm_generate_job.tests.contract_batch import BatchContract
from odoo.addons.llm_generate_job_batch.models import llm_generation_provider_batch

from .fake_anthropic import API_KEY, FakeAnthropic


class TestBatches(BatchContract, LlmGenerationCommon):
    #: A batch that is taken is begun there.
    fails_as_a_whole = False

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls._offer_service()
        cls.remote = FakeAnthropic()
        cls.addClassCleanup(cls.remote.close)
        cls.provider, cls.model = cls._create_provider("Fake", "anthropic")
        cls.provider.write({"api_base": cls.remote.url, "api_key": API_KEY})

    @classmethod
    def _offer_service(cls):
        """Be the addon that chats with Anthropic, where none is installed."""
        provider_class = type(cls.env["llm.provider"])
        original = provider_class._get_available_services
        if "anthropic" in dict(original(cls.env["llm.provider"])):
            return

        def services(provider):
            return [*original(provider), ("anthropic", "Anthropic")]

        def formatted(_provider, messages, system_prompt=None, model=None):
            roles = [(one.llm_role, one._said()) for one in messages if one.llm_role]
            return [{"role": role, "content": text} for role, text in roles]

        def chat(
            _provider, messages, model=None, max_tokens=None, prepend_messages=None, **_kwargs
        ):
            yield {"content": "Hello there"}

        methods = {
            "_get_available_services": services,
            "anthropic_format_messages": formatted,
            "anthropic_chat": chat,
        }
        for name, method in methods.items():
            cls.startClassPatcher(patch.object(provider_class, name, method, create=True))

    def test_a_request_is_a_message_of_its_own(self):
        job = self._economy("One?")
        batch = self._batch_of(job)
        with self._offered("llm.thread", get_prepend_messages=lambda _thread: [
            {"role": "system", "content": "Be brief."}
        ]):  # fmt: skip
            self._go_on(batch)
        (params,) = self.remote.params
        self.assertEqual(
            params,
            {
                "model": self.model.name,
                "max_tokens": 4096,
                "system": "Be brief.",
                "messages": [{"role": "user", "content": "One?"}],
            },
        )

    def test_while_nobody_can_know_it_is_not_submitted_again(self):
        jobs = self._economy("One?", "Two?")
        batch = self._batch_of(jobs)
        self.remote.lose_reply()
        for _step in range(9):
            self._go_on(batch)
            self.assertEqual((batch.state, len(self.remote.batches)), ("submitting", 1))
        self._ended(batch)
        self._go_on(batch)
        self.assertEqual((batch.state, jobs.mapped("state")), ("done", ["completed"] * 2))

    def test_batches_of_another_size_or_before_are_none(self):
        self.remote.take([("foreign-1", "One?")])
        self.remote.take([("foreign-1", "One?"), ("foreign-2", "Two?")])
        jobs = self._economy("One?", "Two?")
        batch = self._batch_of(jobs)
        self.remote.refuse("transient")
        self._go_on(batch)
        with patch.object(llm_generation_provider_batch, "CLOCKS", timedelta(hours=-1)):
            self._go_on(batch)
        self.assertEqual((batch.state, batch.external_id), ("running", "batch_3"))

    def test_results_that_are_no_longer_kept_have_the_jobs_run(self):
        jobs, batch = self._submitted("One?")
        shown = self.remote.shown
        self.remote.shown = lambda one: {**shown(one), "archived_at": "2026-01-01T00:00:00Z"}
        self.addCleanup(delattr, self.remote, "shown")
        self._ended(batch)
        self.assertEqual((batch.state, batch.error_type), ("failed", "provider_failed"))
        self.assertFalse(jobs.batch_lane)
