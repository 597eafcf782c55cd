"""Jobs at a server that answers oddly, each with the number of calls that it sees."""

import json

from odoo.tools import mute_logger

from odoo.addons.llm_generate_job.tests.fake_http import Reply, json_reply
from odoo.addons.llm_generate_job.tests.test_source import ANSWERS

from .common import LlmOpenaiJobCommon, chat_reply, is_bounded

SLOW = {"error": {"code": 429, "message": "Slow down."}}


def stream(*events):
    """Return the streamed reply of these events."""
    data = [b"data: %s\n\n" % json.dumps(event).encode() for event in events]
    return Reply(content_type="text/event-stream", chunks=[*data, b"data: [DONE]\n\n"])


def delta(reason=None, **values):
    return {"choices": [{"index": 0, "delta": values, "finish_reason": reason}]}


class TestOddAnswers(LlmOpenaiJobCommon):
    def setUp(self):
        super().setUp()
        self.provider.use_background_jobs = False

    def _needs_own_client(self):
        if not is_bounded():
            self.skipTest("needs another llm: whose chat tells how an answer ended")

    def _asked(self, *replies, **values):
        self.server.requests.clear()
        self.answer(*replies)
        queue = self.env["llm.generation.queue"]._get_or_create_queue(self.provider)
        queue.write({"paused_until": False, "refused_by": False})
        job = self._create_job("queued", model=self.model, **values)
        self._process_queue(self.provider)
        self.server.replies.clear()
        return job

    def test_an_error_within_a_stream_is_that_of_its_code(self):
        for told, ended in (
            (SLOW, ("queued", "rate_limited")),
            ({"error": {"code": "429", "message": "Slow down."}}, ("queued", "rate_limited")),
            ({"error": {"code": 503, "message": "Busy."}}, ("queued", "overloaded")),
            ({"error": {"code": 401, "message": "No key."}}, ("queued", "authentication")),
            ({"error": {"code": 402, "message": "Pay."}}, ("queued", "quota")),
            ({"error": {"code": 400, "message": "No."}}, ("failed", "bad_request")),
            (
                {"error": {"code": "content_filter", "message": "No."}},
                ("failed", "content_refused"),
            ),
            ({"error": {"code": "insufficient_quota", "message": "Pay."}}, ("queued", "quota")),
        ):
            with self.subTest(told):
                job = self._asked(stream(told))
                self.assertEqual((job.state, job.error_type), ended, job.error_message)
                self.assertFalse(job.retry_at)
                self.assertEqual(len(self.server.requests), 1)
                if job.can_cancel:
                    job.action_cancel()

    def test_an_error_within_any_body_is_that_of_its_code(self):
        self._needs_own_client()
        image = self.env["llm.model"].create({
            "name": "tiny-image", "provider_id": self.provider.id, "model_use": "image_generation",
        })  # fmt: skip
        for told in (SLOW, {"object": "error", "message": "Slow down.", "code": 429}):
            for model in (self.model, image):
                with self.subTest(told, model=model.name):
                    thread = self._create_thread(model)
                    job = self._asked(json_reply(told), thread_id=thread.id)
                    self.assertEqual((job.state, job.error_type), ("queued", "rate_limited"))
                    self.assertEqual(len(self.server.requests), 1)
                    job.action_cancel()
        self.provider.use_background_jobs = True
        job = self._asked(json_reply(SLOW))
        self.assertEqual((job.state, job.error_type), ("queued", "rate_limited"))
        job.action_cancel()
        job = self._asked(json_reply({"id": "resp_1"}))
        self.assertEqual((job.state, job.error_type), ("failed", "unreadable"))
        self.assertIn('It begins with: {"id": "resp_1"}', job.error_message)
        self.assertFalse(job.retry_at)

    @mute_logger("odoo.addons.llm_openai.client")
    def test_what_cannot_be_read_is_asked_for_once(self):
        self._needs_own_client()
        for reply in (
            Reply(200, b"<html>Welcome", "text/html"),
            Reply(200, b'{"id": 1}'),
            Reply(200, b"data: Welcome\n\n", "text/event-stream"),
        ):
            with self.subTest(reply):
                job = self._asked(reply)
                self.assertRecordValues(job, [{"state": "failed", "error_type": "unreadable"}])
                self.assertFalse(job.retry_at)
                start = reply.body.decode().strip().removeprefix("data: ")
                self.assertIn(f"It begins with: {start}", job.error_message)
                self.assertEqual(len(self.server.requests), 1)

    def test_a_redirect_says_where_it_points(self):
        self._needs_own_client()
        place = {"Location": "https://user:pw@api.example.com/v2?key=secret"}
        for background in (False, True):
            self.provider.use_background_jobs = background
            job = self._asked(Reply(308, b"", headers=place))
            self.assertRecordValues(job, [{"state": "failed", "error_type": "bad_request"}])
            self.assertIn("points to https://api.example.com/v2: correct", job.error_message)
            self.assertEqual(len(self.server.requests), 1)

    def test_how_an_answer_ended_is_known(self):
        self._needs_own_client()
        for events, ended in (
            ([delta(content="10 mg, but never"), delta("length")], ("completed", "length")),
            ([delta(content="Hi"), delta("content_filter")], ("completed", "content_filter")),
            ([delta(refusal="No."), delta("stop")], ("completed", "refusal")),
            ([delta(content="Hi"), delta("stop")], ("completed", "stop")),
            ([delta("length")], ("failed", "length")),
            ([delta("content_filter")], ("failed", "content_filter")),
        ):
            with self.subTest(events):
                job = self._asked(stream(*events))
                self.assertEqual((job.state, job.finish_reason), ended, job.error_message)
                self.assertFalse(job.retry_at)
                self.assertEqual(len(self.server.requests), 1)

    def test_the_inputs_of_a_chat_are_sent(self):
        self._needs_own_client()
        inputs = {"temperature": 0, "response_format": {"type": "json_object"}, "max_tokens": 5}
        job = self._asked(chat_reply("{}"), generation_inputs={"prompt": "Hi", **inputs})
        self.assertEqual(job.state, "completed", job.error_message)
        sent = self.server.requests[0].json
        self.assertEqual({name: sent[name] for name in inputs}, inputs)
        self.assertNotIn("prompt", sent)

    def test_an_answer_goes_back_as_it_came(self):
        """Byte for byte, from the stream to the job, and to the server with the next question."""
        for name, text in ANSWERS.items():
            with self.subTest(answer=name):
                thread = self._create_thread(self.model)
                pieces = [text[start : start + 7] for start in range(0, len(text), 7)]
                said = [delta(content=piece) for piece in pieces]
                job = self._asked(stream(*said, delta("stop")), thread_id=thread.id)
                self.assertEqual(job.state, "completed", job.error_message)
                self.assertEqual(job.output_text.encode(), text.encode())
                self.assertEqual(len(self.server.requests), 1)
                self._asked(chat_reply("Fine"), thread_id=thread.id)
                [request] = self.server.requests
                told = [
                    one["content"] for one in request.json["messages"] if one["role"] == "assistant"
                ]
                self.assertEqual([one.encode() for one in told], [text.encode()])
