import json
from contextlib import suppress
from importlib import import_module
from unittest.mock import patch

from odoo.addons.llm_generate_job.tests.common import LlmGenerationCommon
from odoo.addons.llm_generate_job.tests.fake_http import FakeHttpService, Reply, json_reply

API_KEY = "sk-canary-key-0123456789abcdef"

#: Where what chats says how long it waits: a module of `llm_openai`, or the library that it uses.
PATIENCE = (
    ("odoo.addons.llm_openai.client", "READ_TIMEOUT"),
    ("openai._base_client", "DEFAULT_TIMEOUT"),
)


def _chat_client():
    """Return the module that chats for `llm_openai`, and its name for the seconds it waits."""
    for name, limit in PATIENCE:
        with suppress(ImportError):
            return import_module(name), limit
    return None, ""


def chat_patience(seconds=0.4):
    """Have the chat of `llm_openai`, whoever wrote it, wait so long."""
    return patch.object(*_chat_client(), seconds)


def is_bounded():
    """Return whether what chats reads with bounds, and to the end: libraries of vendors do not.

    They take a stream for whole that ends before the model has said so.
    """
    return _chat_client()[1] == PATIENCE[0][1]


def response(status, text="", **values):
    """Return a response as the server has it."""
    output = [
        {"type": "reasoning", "summary": []},
        {
            "type": "message",
            "role": "assistant",
            "content": [{"type": "output_text", "text": text}],
        },
    ]
    return {
        "id": "resp_1",
        "object": "response",
        "status": status,
        "output": output if text else [],
        "usage": {"input_tokens": 11, "output_tokens": 3, "total_tokens": 14} if text else None,
        **values,
    }


def chat_reply(text, usage=None):
    """Return the streamed reply of the chat interface that says a text, word by word."""
    words = [{"content": f"{word} "} for word in text.split()]
    events = [{"choices": [{"index": 0, "delta": delta, "finish_reason": None}]} for delta in words]
    events.append({"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]})
    if usage:
        events.append({"choices": [], "usage": usage})
    chunks = [b"data: %s\n\n" % json.dumps(event).encode() for event in events]
    return Reply(content_type="text/event-stream", chunks=[*chunks, b"data: [DONE]\n\n"])


class ScriptedServer(FakeHttpService):
    """Gives the replies that a test put into `replies`, in turn."""

    def reset(self):  # pylint: disable=missing-return
        super().reset()
        self.replies = []

    def answer(self, request):
        return self.replies.pop(0)


class LlmOpenaiJobCommon(LlmGenerationCommon):
    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.server = ScriptedServer()
        cls.addClassCleanup(cls.server.close)
        cls.provider, cls.model = cls._create_provider("Loopback", "openai")
        cls.provider.write({
            "api_base": f"{cls.server.url}/v1",
            "api_key": API_KEY,
            "use_background_jobs": True,
        })

    def setUp(self):
        super().setUp()
        self.server.reset()

    def answer(self, *bodies, status=200):
        """Have the server answer the next requests with these."""
        self.server.replies += [
            body if isinstance(body, Reply) else json_reply(body, status) for body in bodies
        ]
