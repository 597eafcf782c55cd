import copy
import importlib
import socket
import threading
import time
from importlib.util import find_spec
from types import ModuleType, SimpleNamespace
from unittest.mock import patch

from ..models.llm_provider import for_one_try, hear_connections
from ..protocol.answer import Claim
from ..runner.executor import CallRecorder, Execution
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


class HttpxStandIn:
    """Does of `httpx` what the hooks need: it is not installed where no vendor's library is."""

    def __init__(self):
        self.event_hooks = {"request": [], "response": []}

    def get(self, url, timeout):
        request = SimpleNamespace(extensions={"timeout": timeout})
        for hook in self.event_hooks["request"]:
            hook(request)
        host, port = url.removeprefix("http://").split(":")
        with socket.create_connection((host, int(port)), timeout) as sock:
            stream = SimpleNamespace(get_extra_info={"socket": sock}.get)
            request.extensions["trace"]("connection.connect_tcp.started", {"host": host})
            request.extensions["trace"]("connection.connect_tcp.complete", {"return_value": stream})
            sock.sendall(b"GET")
            if not sock.recv(1):
                raise EOFError


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
        self.assertIs(for_one_try(client, None), client)
        self.assertIsNone(configuration.retry_config)

    def test_a_module_is_left_as_it_is(self):
        module = ModuleType("fal_client")
        module.max_retries, module.with_options = 2, StainlessClient().with_options
        self.assertIs(for_one_try(module, None), module)
        self.assertEqual(module.max_retries, 2)

    def test_what_is_not_known_is_left_as_it_is(self):
        for client in (None, object(), SimpleNamespace(max_retries=2), {"max_retries": 2}):
            self.assertIs(for_one_try(client, None), client)

    def test_a_client_waits_as_long_as_the_job_may_take(self):
        client = StainlessClient()
        client.max_retries = 0
        self.assertIs(for_one_try(client, 1234), client)  # it has none that could be set
        client.timeout = 600
        self.assertEqual(for_one_try(client, 1234).timeout, 1234)
        self.assertEqual(client.timeout, 600)
        self.assertIs(for_one_try(client, None), client)

    def test_a_client_of_httpx_is_hung_up_on_before_there_is_an_answer(self):
        makers = [HttpxStandIn]
        if find_spec("httpx"):
            makers.append(importlib.import_module("httpx").Client)
        for make in makers:
            for vendors in (
                lambda http: SimpleNamespace(_client=http),
                lambda http: SimpleNamespace(sdk_configuration=SimpleNamespace(client=http)),
            ):
                with self.subTest(make=make), socket.create_server(("127.0.0.1", 0)) as server:
                    self._assert_hung_up_on(make(), vendors, server)

    def _assert_hung_up_on(self, http, vendors, server):
        connections = []  # which stay open
        take = connections.append
        threading.Thread(target=lambda: take(server.accept()), daemon=True).start()
        execution, failed = Execution(Claim(1, 1)), []
        with patch.object(execution, "on_response", wraps=execution.on_response) as told:
            hear_connections(vendors(http), execution.on_response)

            def ask():
                try:
                    http.get("http://{}:{}".format(*server.getsockname()), timeout=30)
                except Exception as error:  # noqa: BLE001 whichever library it is
                    failed.append(error)

            caller = threading.Thread(target=ask, daemon=True)
            caller.start()
            for _moment in range(100):
                if told.called:
                    break
                time.sleep(0.05)
        caller.join(0.2)
        self.assertTrue(caller.is_alive())
        execution.cancel()
        caller.join(5)
        self.assertFalse(caller.is_alive())
        self.assertTrue(failed)

    def test_a_client_that_is_not_known_is_not_hung_up_on(self):
        for client in (None, ModuleType("fal_client"), SimpleNamespace(_client=object())):
            hear_connections(client, self.fail)
        http = HttpxStandIn()
        hear_connections(SimpleNamespace(_client=http), None)
        self.assertEqual(http.event_hooks, {"request": [], "response": []})

    def test_who_asks_without_a_job_has_the_client_as_it_is(self):
        self.assertIs(self.direct.client, self.client)
        provider = self.direct.with_context(generation_recorder=CallRecorder())
        self.assertEqual(provider.client.max_retries, 0)
