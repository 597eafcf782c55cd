"""Servers that we did not write, in the words of the contract."""

import json
import os
import re
import urllib.error
import urllib.request

from odoo.addons.llm_generate_job.tests.fake_http import STATUS_OF, FakeHttpService, Reply, half

from .common import is_bounded

#: Where `make test` serves them: llmock, and llama.cpp with a model and that model's name.
MOCK_BASE = os.environ.get("LLM_TEST_MOCK_BASE")
MODEL_BASE = os.environ.get("LLM_TEST_API_BASE")
MODEL_NAME = os.environ.get("LLM_TEST_MODEL")
CHAT = "/chat/completions"
#: Tokens of an answer: it is not its length that is tested.
BRIEF = 8


def call(url, body=None, method=None):
    """Return the status, the headers and the bytes of an answer."""
    data = None if body is None else json.dumps(body).encode()
    headers = {"Content-Type": "application/json"}
    request = urllib.request.Request(url, data, headers, method=method)
    try:
        with urllib.request.urlopen(request, timeout=60) as answer:
            return answer.status, answer.headers, answer.read()
    except urllib.error.HTTPError as error:
        return error.code, error.headers, error.read()


class MockRemote:
    """llmock: it takes orders for faults, notes each call, and judges who called."""

    text = "Mock response"

    def __init__(self, api_base):
        self.desk = f"{api_base.removesuffix('/v1')}/_llmock"

    def reset(self):
        self._desk("reset", method="POST")
        self.say(self.text)

    def _desk(self, path, body=None, method=None):
        status, _headers, content = call(f"{self.desk}/{path}", body, method)
        if status >= 300:
            raise AssertionError(f"llmock refuses the order: {content}")
        return json.loads(content)

    def order(self, kind, /, **values):
        """Order one behavior, for one call unless `times` says otherwise."""
        self._desk("scenario", {"behaviors": [{"type": kind, **values}]})

    def say(self, text):
        self.order("reply", text=text, times=None)

    def refuse(self, meaning, retry_after=None, text="It went wrong."):
        if meaning == "unknown_outcome":
            self.order("stream_fault", kind="disconnect", after_chunks=0)
            return
        # As OpenAI does it: no credit looks like a rate limit, but for its code.
        quota = {"status": 429, "code": "insufficient_quota"} if meaning == "quota" else {}
        values = {"status": STATUS_OF[meaning], "retry_after": retry_after, **quota}
        self.order("fail", message=text, **values)

    def be_slow(self, seconds):
        self.order("delay", seconds=seconds)

    def be_silent(self):
        self.order("delay", seconds=5)

    def talk_nonsense(self):
        self.order("stream_fault", kind="malformed", after_chunks=2)

    def hang_up(self):
        self.order("stream_fault", kind="disconnect", after_chunks=2)

    def break_off(self):
        """Have the next answer end early; as if it were whole, where who chats can tell."""
        kind = "truncate" if is_bounded() else "disconnect"
        self.order("stream_fault", kind=kind, after_chunks=2)

    @property
    def calls(self):
        return self._desk("requests")["requests"]

    @property
    def submitted(self):
        return sum(one["status"] == 200 for one in self.calls)

    @property
    def findings(self):
        """Return what it holds against the caller."""
        return [one["code"] for one in self._desk("verdict")["findings"]]


class ModelRelay(FakeHttpService):
    """Passes calls on to a real model, whose bytes then meet the faults that are ordered.

    `words` has one of each answer: nobody knows before what a model says.
    """

    def reset(self):
        self.requests, self.faults = [], []
        self.submitted = 0
        self.words = []

    def break_off(self):
        self.fault(half)

    def answer(self, request):
        self.submitted += 1
        body = {**request.json, "max_tokens": BRIEF}
        status, headers, content = call(MODEL_BASE + request.path.removeprefix("/v1"), body)
        events = [event + b"\n\n" for event in content.split(b"\n\n") if event]
        self.words.append(first_word(events))
        return Reply(status, content_type=headers["Content-Type"], chunks=events)


def first_word(events):
    """Return a word of a streamed answer."""
    said = ""
    for event in events:
        data = event.removeprefix(b"data: ").strip()
        if data != b"[DONE]":
            for choice in json.loads(data).get("choices") or ():
                said += choice["delta"].get("content") or ""
    return re.search(r"[A-Za-z]+", said)[0]
