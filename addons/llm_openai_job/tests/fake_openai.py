import itertools

from odoo.addons.llm_generate_job.tests.fake_http import FakeHttpService, half, json_reply

from .common import API_KEY, chat_reply, response

#: States of the contract in OpenAI's words.
STATUS_OF = {"running": "in_progress"}


class FakeOpenAI(FakeHttpService):
    """A server with `/chat/completions`, streamed, and `/responses` in background mode."""

    text = "Hello there"

    def reset(self):
        self.requests, self.faults = [], []
        self.state = "running"
        self.submitted = self.cancelled = 0
        self.numbers = itertools.count(1)

    def answer(self, request):
        if request.headers.get("authorization") != f"Bearer {API_KEY}":
            return json_reply({"error": {"message": "No key.", "code": "invalid_api_key"}}, 401)
        if request.path == "/v1/chat/completions":
            return self._chat()
        return self._response(request)

    def _chat(self):
        self.submitted += 1
        return chat_reply(self.text, {"prompt_tokens": 7, "completion_tokens": 2})

    def _response(self, request):
        response_id = request.path.split("/")[3] if request.path.count("/") > 2 else None
        status = STATUS_OF.get(self.state, self.state)
        if request.path.endswith("/cancel"):
            self.cancelled += self.state in {"queued", "running"}
            status = "cancelled"
        elif request.method == "POST":
            self.submitted += 1
            response_id, status = f"resp_{next(self.numbers)}", "queued"
        text = self.text if status == "completed" else ""
        error = {"code": "odd", "message": "It broke."} if status == "failed" else None
        return json_reply(response(status, text, id=response_id, error=error))

    def break_off(self):
        """Have the next streamed answer end in its middle."""
        self.fault(half)
