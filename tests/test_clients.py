import copy
from types import ModuleType, SimpleNamespace
from unittest.mock import patch

from ..models.llm_provider import without_retries
from ..runner.executor import CallRecorder
from .common import LlmGenerationCommon


class RateLimitError(Exception):
    status_code = 429
    response = SimpleNamespace(
        status_code=429, headers={"Retry-After": "7"}, json=lambda: {"error": {"message": "Slow."}}
    )


class StainlessClient:
    """Tries again by itself, as those of `openai` and `anthropic` do."""

    max_retries = 2

    def __init__(self):
        self.asked = []

    def with_options(self, **options):
        client = copy.copy(self)
        vars(client).update(options)
        return client

    def ask(self):
        for attempt in range(self.max_retries + 1):
            self.asked.append(attempt)
        raise RateLimitError


class TestClients(LlmGenerationCommon):
    """The clients that providers make of vendors' libraries, and how often these ask."""

    def setUp(self):
        super().setUp()
        self.client = StainlessClient()
        methods = {
            "fakedirect_get_client": lambda _provider: self.client,
            "fakedirect_chat": lambda provider, _messages, **_how: provider.client.ask(),
        }
        for name, method in methods.items():
            self.startPatcher(patch.object(type(self.direct), name, method, create=True))
        self.thread = self._create_thread(self.direct_model)

    def test_a_job_asks_once_and_the_queue_waits(self):
        job = self.thread.enqueue_generation("How are you?")
        self._process_queue(self.direct)
        self.assertEqual(self.client.asked, [0])
        self.assertEqual((job.state, job.error_type), ("queued", "rate_limited"))
        self.assertTrue(self.direct_queue.paused_until)
        self.assertEqual(self.client.max_retries, 2)  # what others may have stays as it is

    def test_a_direct_answer_is_tried_again_by_the_library(self):
        self._needs_errors_raised()
        with self.assertRaises(RateLimitError):
            list(self.thread.generate("How are you?"))
        self.assertEqual(self.client.asked, [0, 1, 2])

    def test_a_service_that_dispatches_its_own_way_asks_once_too(self):
        provider_class = type(self.direct)
        inherited = provider_class._dispatch

        def dispatch(provider, method, *args, record=None, **kwargs):
            if method == "get_client":
                return self.client
            return inherited(provider, method, *args, record=record, **kwargs)

        with patch.object(provider_class, "_dispatch", dispatch):
            self.thread.enqueue_generation("How are you?")
            self._process_queue(self.direct)
        self.assertEqual(self.client.asked, [0])

    def test_a_client_that_is_told_how_to_try_again_does_not(self):
        configuration = SimpleNamespace(retry_config=object())
        client = SimpleNamespace(sdk_configuration=configuration)
        self.assertIs(without_retries(client), client)
        self.assertIsNone(configuration.retry_config)

    def test_a_module_is_left_as_it_is(self):
        module = ModuleType("fal_client")
        module.max_retries, module.with_options = 2, StainlessClient().with_options
        self.assertIs(without_retries(module), module)
        self.assertEqual(module.max_retries, 2)

    def test_what_is_not_known_is_left_as_it_is(self):
        for client in (None, object(), SimpleNamespace(max_retries=2), {"max_retries": 2}):
            self.assertIs(without_retries(client), client)

    def test_who_asks_without_a_job_has_the_client_as_it_is(self):
        self.assertIs(self.direct.client, self.client)
        provider = self.direct.with_context(generation_recorder=CallRecorder())
        self.assertEqual(provider.client.max_retries, 0)
