"""What servers send in the world, each with the number of calls that it costs."""

import json

import requests

from odoo.tools import mute_logger

from ..reading import UnreadableError
from .common import API_KEY, LlmOpenaiCommon, delta, json_answer, raw_answer, stream_answer

LOG = "odoo.addons.llm_openai.client"
ASKED = [{"role": "user", "content": "Hi"}]
STOP = {"finish_reason": "stop"}


def event(*args, **values):
    """Return an event as JSON."""
    return json.dumps(delta(*args, **values)).encode()


class TestAnswers(LlmOpenaiCommon):
    def _assert_calls(self, number):
        self.assertEqual(len(self.server.requests), number)
        self.server.requests.clear()

    # === STREAMS === #

    def test_streams_of_the_world_are_read(self):
        one, end = event("Hi"), event(finish_reason="stop")
        body = {"choices": [{"message": {"content": "Hi"}, "finish_reason": "stop"}]}
        whole = json.dumps(body).encode()
        lines = json.dumps(delta("Hi"), indent=1).encode().splitlines()
        ended = b"data: %s\n\ndata: [DONE]\n\n" % end
        usual = b"data: %s\n\n%s" % (one, ended)
        streams = {
            "as it should be": usual,
            "empty data": b"data: \n\ndata:\n\ndata\n\n" + usual,
            "a byte order mark": b"\xef\xbb\xbf" + usual,
            "a mark and JSON": b"\xef\xbb\xbf" + whole,
            "comments": b": ping\n\n:\n\ndata: %s\n: ping\n\n:\n%s" % (one, ended),
            "no space": usual.replace(b"data: ", b"data:"),
            "other fields": b"event: message\nid: 1\nretry: 5\n" + usual,
            "no empty lines": usual.replace(b"\n\n", b"\n"),
            "an event in several lines": b"data: " + b"\ndata: ".join(lines) + b"\n\n" + ended,
            "CRLF": usual.replace(b"\n", b"\r\n"),
            "no [DONE]": usual.replace(b"data: [DONE]\n\n", b""),
            "no last line end": b"data: %s\n\ndata: %s" % (one, end),
            "null": b"data: null\n\n" + usual,
            "no choices": b'data: {"id": 1}\n\ndata: {"choices": null}\n\n' + usual,
            "odd choices": b'data: {"choices": [null, {}, {"delta": null}]}\n\n' + usual,
            "JSON": whole,
            "JSON after empty lines": b"\r\n\n" + whole,
        }
        for name, body in streams.items():
            for kind in ("text/event-stream", "application/json", "text/plain", ""):
                for chunks in ([body], [body[:7], body[7:]]):
                    with self.subTest(name, kind=kind):
                        self.answer(raw_answer(*chunks, content_type=kind))
                        said, rest = self._said()
                        self.assertEqual(said, "Hi")
                        self.assertEqual(rest, [STOP])
                        self._assert_calls(1)

    def test_parts_are_one_text(self):
        parts = [{"type": "text", "text": "Hi "}, {"type": "text", "text": "you"}, {"x": 1}, None]
        self.answer(
            stream_answer(delta(parts)),
            json_answer({"choices": [{"message": {"content": parts}}]}),
        )
        self.assertEqual(self._said()[0], "Hi you")
        self.assertEqual(self.provider.chat(ASKED)["content"], "Hi you")

    def test_usage_in_every_event_is_read_and_the_last_one_is_the_last(self):
        usages = [{"prompt_tokens": 7, "completion_tokens": number} for number in (1, 2)]
        self.answer(
            stream_answer(
                {**delta("Hi"), "usage": usages[0]},
                {**delta(finish_reason="stop"), "usage": None},
                {"choices": [], "usage": usages[1]},
            )
        )
        self.assertEqual(self._said(), ("Hi", [{"usage": usages[0]}, {"usage": usages[1]}, STOP]))

    def test_a_total_is_told_as_some_count_thoughts_in_it_alone(self):
        usage = {"prompt_tokens": 9, "completion_tokens": 1, "total_tokens": 103}
        self.answer(
            stream_answer(delta("Hi", finish_reason="stop"), {"choices": [], "usage": usage}),
            json_answer({"choices": [{"message": {"content": "Hi"}}], "usage": usage}),
        )
        self.assertEqual(self._said(), ("Hi", [{"usage": usage}, STOP]))
        self.assertEqual(self.provider.chat(ASKED)["usage"], usage)

    def test_an_emoji_that_is_split_over_two_events_stays_whole(self):
        self.answer(
            raw_answer(
                b'data: {"choices": [{"delta": {"content": "a\\ud83d"}}]}\n\n',
                b'data: {"choices": [{"delta": {"content": "\\ude00b"}}]}\n\n',
                b'data: {"choices": [{"delta": {"content": "\\ud83d"}}]}\n\n',
                b'data: {"choices": [{"delta": {"content": "c"}}]}\n\ndata: [DONE]\n\n',
            )
        )
        self.assertEqual(self._said()[0], "a\U0001f600b\ufffdc")

    def test_bytes_that_are_no_text_are_replaced(self):
        self.answer(
            raw_answer(b'data: {"choices": [{"delta": {"content": "a\xf0\x9fb"}}]}\n\ndata: [DONE]')
        )
        self.assertEqual(self._said()[0], "a\ufffdb")

    @mute_logger(LOG)
    def test_what_cannot_be_read_says_what_was_got(self):
        garbage = f"<html> Welcome {API_KEY}".encode()
        for body, told in (
            (garbage, "<html> Welcome [hidden]"),
            (b"data: Hello\n\n" + b"data: [DONE]\n\n", "Hello"),
            (b'data: {"id": 1}\n\ndata: [DONE]\n\n', '{"id": 1}'),
            (b'{"id": 1}', '{"id": 1}'),
            (b"[1, 2]", "[1, 2]"),
            (b"7", "7"),
        ):
            for kind in ("text/event-stream", "application/json", "text/html"):
                with self.subTest(body=body, kind=kind):
                    self.answer(raw_answer(body, content_type=kind))
                    with self.assertRaises(UnreadableError) as caught:
                        self._stream()
                    self.assertIn(f"It begins with: {told}", str(caught.exception))
                    self._assert_calls(1)

    @mute_logger(LOG)
    def test_a_whole_answer_that_is_none_says_what_was_got(self):
        self._create_model("tiny-embed", "embedding")
        image = self._create_model("tiny-image", "image_generation")
        for body in (b'{"id": 1}', b"<html>", b"[]", b"null"):
            for call in (
                lambda: self.provider.chat(ASKED),
                lambda: self.provider.generate({"prompt": "Hi"}, model=self.chat_model),
                lambda: self.provider.generate({"prompt": "Hi"}, model=image),
                lambda: self.provider.embedding(["Hi"]),
                self.provider.list_models,
            ):
                self.answer(raw_answer(body, content_type="application/json"))
                with self.assertRaisesRegex(UnreadableError, "It begins with: "):
                    call()
                self._assert_calls(1)

    @mute_logger(LOG)
    def test_an_image_that_is_none_is_no_success(self):
        image = self._create_model("tiny-image", "image_generation")
        for rows in ([], [{}], None):
            self.answer(json_answer({"data": rows}))
            with self.assertRaises(UnreadableError):
                self.provider.generate({"prompt": "Hi"}, model=image)

    def test_a_stream_that_breaks_off_in_an_event_is_not_taken_for_an_answer(self):
        self.answer(raw_answer(b"data: %s\n\n" % event("Hi"), b'data: {"choi'))
        with self.assertRaises(requests.exceptions.ChunkedEncodingError):
            self._stream()

    def test_a_redirect_says_where_it_points(self):
        place = f"https://user:{API_KEY}@api.example.com/v2/chat?key={API_KEY}#x"
        self.answer(json_answer({}, status=308, headers=[("Location", place)]))
        with self.assertRaises(requests.HTTPError) as caught:
            self._stream()
        self.assertIn("HTTP 308: the server points to https://api.example.com/v2/chat: correct",
                      str(caught.exception))  # fmt: skip
        self._assert_calls(1)

    # === ERRORS === #

    def test_an_error_within_a_success_is_that_of_its_code(self):
        self._create_model("tiny-embed", "embedding")
        image = self._create_model("tiny-image", "image_generation")
        calls = {
            "stream": self._stream,
            "chat": lambda: self.provider.chat(ASKED),
            "text": lambda: self.provider.generate({"prompt": "Hi"}, model=self.chat_model),
            "image": lambda: self.provider.generate({"prompt": "Hi"}, model=image),
            "embedding": lambda: self.provider.embedding(["Hi"]),
            "models": lambda: list(self.provider.list_models()),
            "model": lambda: list(self.provider.list_models("m")),
        }
        for body, status in (
            ({"error": {"code": 429, "message": "Slow"}}, 429),
            ({"error": {"code": "429"}}, 429),
            ({"error": {"type": "rate_limit_error", "message": "Slow"}}, 429),
            ({"error": {"code": "insufficient_quota", "type": "insufficient_quota"}}, 429),
            ({"error": {"status": "RESOURCE_EXHAUSTED", "message": "Slow"}}, 429),
            ({"error": {"type": "overloaded_error"}}, 503),
            ({"error": {"code": "content_filter"}}, 400),
            ({"error": "It broke."}, 500),
            ({"error": {"message": "It broke."}}, 500),
            ({"error": "No.", "code": 401}, 401),
            ({"object": "error", "message": "Too long", "code": 400}, 400),
            ({"object": "error", "message": "Busy", "type": "overloaded_error"}, 503),
            ({"type": "error", "error": {"type": "api_error", "message": "Oh"}}, 500),
            ({"choices": [{"delta": {"content": ""}, "finish_reason": "error"}]}, 500),
        ):
            for name, call in calls.items():
                with self.subTest(body=body, call=name):
                    self.answer(json_answer(body, headers=[("Retry-After", "7")]))
                    with self.assertRaises(requests.HTTPError) as caught:
                        call()
                    response = caught.exception.response
                    self.assertEqual(response.status_code, status)
                    self.assertEqual(response.json(), body)
                    self.assertEqual(response.headers["Retry-After"], "7")
                    self._assert_calls(1)

    def test_an_error_in_the_middle_of_a_stream_is_that_of_its_code_without_the_key(self):
        told = {"error": {"code": 503, "message": f"Broken by {API_KEY}"}}
        self.answer(stream_answer(delta("Hal"), told, done=False))
        chunks = self.provider.chat(ASKED, stream=True)
        self.assertEqual(next(chunks), {"content": "Hal"})
        with self.assertRaises(requests.HTTPError) as caught:
            next(chunks)
        self.assertEqual(str(caught.exception), "HTTP 503: Broken by [hidden]")
        self.assertNotIn(API_KEY, caught.exception.response.text)
        self._assert_calls(1)

    # === ENDS === #

    def test_how_an_answer_ended_is_told(self):
        for reason in ("stop", "length", "content_filter", "tool_calls"):
            for text in ("Half", ""):
                with self.subTest(reason, text=text):
                    self.answer(stream_answer(delta(text), delta(finish_reason=reason)))
                    self.assertEqual(self._said(), (text, [{"finish_reason": reason}]))
                    body = {"message": {"content": text}, "finish_reason": reason}
                    self.answer(json_answer({"choices": [body]}))
                    self.assertEqual(
                        self.provider.chat(ASKED), {"content": text, "finish_reason": reason}
                    )

    def test_a_refusal_is_what_the_model_says(self):
        self.answer(
            stream_answer(
                delta(refusal="I will "), delta(refusal="not."), delta(finish_reason="stop")
            ),
            json_answer({"choices": [{"message": {"content": None, "refusal": "No."}}]}),
        )
        self.assertEqual(self._said(), ("I will not.", [{"finish_reason": "refusal"}]))
        self.assertEqual(self.provider.chat(ASKED), {"content": "No.", "finish_reason": "refusal"})
