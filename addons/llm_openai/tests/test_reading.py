import gzip
import json
import time
import tracemalloc
from unittest.mock import patch

import requests

from odoo.tests import BaseCase, tagged

from .. import completion, reading
from ..client import OpenAIClient
from .common import API_KEY, ServerMixin, stream_answer


@tagged("post_install", "-at_install")
class TestReading(ServerMixin, BaseCase):
    """A server that sends too much, in any of the ways there are."""

    def setUp(self):
        super().setUp()
        self.client = OpenAIClient(self.api_base, API_KEY)

    def _body(self, body, status=200, content_type="application/json", **headers):
        self.answer(lambda handler: handler.send_body(status, content_type, body, headers.items()))

    def _peak(self, error_class, call):
        """Return the error of a call, which must not take much memory."""
        tracemalloc.start()
        try:
            with self.assertRaises(error_class) as caught:
                call()
            peak = tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()
        self.assertLess(peak, 10_000_000)
        return caught.exception

    def test_what_was_compressed_is_not_unpacked(self):
        bomb = gzip.compress(bytes(100_000_000), 1)
        headers = {"Content-Encoding": "gzip"}
        calls = (
            lambda: self.client.get("models"),
            lambda: list(self.client.stream("chat/completions", {})),
        )
        for call in calls:
            for content_type in ("application/json", "text/event-stream"):
                self._body(bomb, content_type=content_type, **headers)
                self._peak(reading.UnreadableError, call)

                self._body(bomb, 503, content_type, **headers)
                error = self._peak(requests.HTTPError, call)
                self.assertEqual(str(error), "HTTP 503: Service Unavailable")
        self.assertEqual(self.server.requests[0][1]["Accept-Encoding"], "identity")

    def test_all_answers_of_the_process_are_bounded_together(self):
        memory = reading.Memory(3000)
        self.startPatcher(patch.object(reading, "MEMORY", memory))
        self.startPatcher(patch.object(reading, "MEMORY_PATIENCE", 0.05))
        calls = (
            (lambda: self.client.get("models"), json.dumps({"a": "b" * 800}).encode()),
            (lambda: list(self.client.stream("x", {})), b'data: {"a": "%s"}\n' % (b"b" * 800)),
        )
        for content_type, (call, body) in zip(
            ("application/json", "text/event-stream"), calls, strict=True
        ):
            with memory.of("127.0.0.1") as hold:
                hold(1400)
                self._body(body, content_type=content_type)
                with self.assertRaisesRegex(reading.NoRoomError, "room"):
                    call()
            self.assertFalse(memory._taken)

    def test_what_was_read_of_a_stream_takes_no_memory(self):
        def answer(handler):
            handler.start_stream(200)
            for _line in range(60):
                handler.send_chunk(b'data: {"choices": [], "a": "%s"}\n\n' % (b"b" * 80))
            handler.send_chunk(b"data: [DONE]\n\n")

        memory = reading.Memory(3000)
        self.startPatcher(patch.object(reading, "MEMORY", memory))
        self.startPatcher(patch.object(reading, "MEMORY_PATIENCE", 0.05))
        self.answer(answer)
        for event in self.client.stream("x", {}):
            self.assertEqual(len(event["a"]), 80)
            self.assertLess(memory._taken.total(), 1500)
        self.assertFalse(memory._taken)

    def test_a_body_is_bounded(self):
        self._body(json.dumps({"a": "b" * 1000}).encode())
        with patch.object(reading, "BODY_LIMIT", 1000):
            self._peak(reading.UnreadableError, lambda: self.client.get("models"))

    def test_a_body_that_drips_ends_in_time(self):
        def drip(handler, status=200):
            handler.start_stream(status)
            for _byte in range(1000):
                handler.send_chunk(b"x")
                time.sleep(0.05)

        for name, answer, error_class in (
            ("BODY_SECONDS", drip, requests.ReadTimeout),
            ("ERROR_SECONDS", lambda handler: drip(handler, 500), requests.HTTPError),
        ):
            self.answer(answer)
            start = time.monotonic()
            with patch.object(reading, name, 0.3), self.assertRaises(error_class):
                self.client.get("models")
            self.assertLess(time.monotonic() - start, 3)

    def test_a_stream_and_its_lines_are_bounded(self):
        for name, sent in (
            ("LINE_LIMIT", [b"data: " + b"x" * 600] * 3),
            ("STREAM_LIMIT", [b": ping\n"] * 300),
        ):
            self.answer(stream_answer(*sent))
            with patch.object(reading, name, 1000), self.assertRaises(reading.UnreadableError):
                list(self.client.stream("chat/completions", {}))

    def test_a_line_without_an_end_costs_linear_time(self):
        def seconds(count):
            # Once 16 MiB took seven seconds, for each block copied all that had come.
            blocks = iter([b"x" * 1000] * count)
            raw = type("Raw", (), {"read1": lambda _self, _size: next(blocks, b"")})()
            response = requests.Response()
            response.raw = raw
            start = time.process_time()
            (line,) = reading.read_lines(response, "host")
            self.assertEqual(len(line), count * 1000)
            return time.process_time() - start

        seconds(100)
        self.assertLess(seconds(8000), 1)

    def test_lines_are_those_of_the_body_however_it_is_cut(self):
        body = b"data: one\n\ndata: two\r\n\nlast"
        for size in range(1, len(body) + 1):
            blocks = iter([body[at : at + size] for at in range(0, len(body), size)])
            response = requests.Response()
            response.raw = type("Raw", (), {"read1": lambda _s, _n, b=blocks: next(b, b"")})()

            self.assertEqual(list(reading.read_lines(response, "host")), body.split(b"\n"))

    def test_json_is_bounded_in_values_and_levels(self):
        for body in (
            b'{"data": [' + b"[]," * 5_000_000 + b"1]}",
            b'{"a":' * 100_000,
            b"[1]",
            b"null",
        ):
            self._body(body)
            with self.assertRaisesRegex(requests.ConnectionError, "check the API base"):
                self.client.get("models")
            self.answer(stream_answer(b"data: " + body[:1_000_000] + b"\n"))
            with self.assertRaises(requests.ConnectionError):
                list(self.client.stream("chat/completions", {}))

    def test_an_error_of_many_levels_is_told_by_its_status(self):
        for body in (
            b'{"error":' * 5000 + b"1" + b"}" * 5000,
            b'{"error":' * 50 + b"1" + b"}" * 50,
        ):
            self._body(body, 500)
            with self.assertRaisesRegex(requests.HTTPError, "^HTTP 500: "):
                self.client.get("models")

    def test_pieces_of_a_tool_call_are_put_together_in_linear_time(self):
        calls = completion.ToolCalls()
        start = time.process_time()
        for _piece in range(300_000):
            calls.add({"index": 0, "function": {"arguments": "x" * 20}})
        (call,) = calls.finish()

        self.assertEqual(len(call["function"]["arguments"]), 6_000_000)
        self.assertLess(time.process_time() - start, 3)

    def test_tool_calls_are_bounded(self):
        calls = completion.ToolCalls()
        for number in range(2000):
            calls.add({"id": f"call_{number}", "function": {"name": "a"}})

        self.assertEqual(len(calls.finish()), completion.MOST_CALLS)
