import contextlib
import json
import threading
import time
import tracemalloc
from unittest.mock import patch

import requests

from odoo.tests import BaseCase, tagged

from .. import exceptions
from ..protocol import bounded_http
from ..protocol.http_errors import classify
from .fake_http import FakeHttpService, Reply, compressed_zeros, half, json_reply, reset

#: Bytes of a page of zeros.
BOMB = 100_000_000


class FakeHost(FakeHttpService):
    reply = None

    def answer(self, request):
        return self.reply


def drip(handler, reply, status=200):
    """Send an answer byte by byte, each in time."""
    handler.send_response(status)
    handler.send_header("Content-Length", str(len(reply.body)))
    handler.end_headers()
    for byte in reply.body:
        handler.wfile.write(bytes([byte]))
        handler.wfile.flush()
        time.sleep(0.05)


@tagged("post_install", "-at_install")
class TestBoundedHttp(BaseCase):
    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.remote = FakeHost()
        cls.addClassCleanup(cls.remote.close)
        cls.bomb = compressed_zeros(BOMB // 1_000_000)

    def setUp(self):
        super().setUp()
        self.remote.reset()

    def _ask(self, reply, **kwargs):
        self.remote.reply = reply
        return bounded_http.request_json("GET", self.remote.url, timeout=5, **kwargs)

    def _response(self, reply, stream=True):
        self.remote.reply = reply
        response = requests.get(self.remote.url, stream=stream, timeout=10)
        self.addCleanup(response.close)
        return response

    def _refused(self, reply, **kwargs):
        tracemalloc.start()
        try:
            with self.assertRaises(requests.RequestException) as caught:
                self._ask(reply, **kwargs)
            peak = tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()
        self.assertLess(peak, 25_000_000)
        return caught.exception

    def test_an_object_is_returned(self):
        self.assertEqual(self._ask(json_reply({"a": 1})), {"a": 1})
        self.assertEqual(self._ask(Reply(200, chunks=[b'{"a"', b": 2}"])), {"a": 2})
        self.assertEqual(self.remote.requests[0].headers["accept-encoding"], "identity")

    def test_what_was_compressed_is_not_unpacked(self):
        for encoding in ("gzip", "deflate", "br", "gzip, gzip"):
            with self.subTest(encoding):
                reply = Reply(200, self.bomb, headers={"Content-Encoding": encoding})

                error = self._refused(reply)

                self.assertIsInstance(error, bounded_http.UnreadableError)
                self.assertIsInstance(classify(error), exceptions.UnreadableAnswerError)

    def test_an_error_that_was_compressed_is_told_by_its_status(self):
        error = self._refused(Reply(503, self.bomb, headers={"Content-Encoding": "gzip"}))

        known = classify(error)
        self.assertIsInstance(known, exceptions.OverloadedError)
        self.assertEqual(str(known), "HTTP 503: Service Unavailable")

    def test_an_error_of_another_client_is_read_with_bounds_too(self):
        response = self._response(
            Reply(500, self.bomb, headers={"Content-Encoding": "gzip"}), stream=True
        )
        tracemalloc.start()
        try:
            known = classify(requests.HTTPError("bad", response=response))
            peak = tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()

        self.assertIsInstance(known, exceptions.TransientError)
        self.assertLess(peak, 5_000_000)

    def test_a_long_page_of_an_error_costs_no_time(self):
        response = self._response(Reply(502, "<p>é".encode() * 5_000_000, "text/html"), False)
        start = time.process_time()

        known = classify(requests.HTTPError("502 for url: x", response=response))

        self.assertLess(time.process_time() - start, 1)
        self.assertTrue(str(known).startswith("HTTP 502: <p>é<p>é"))

    def test_an_error_of_any_depth_is_told(self):
        for levels in (*range(100, 1000, 50), 5000, 100_000):
            for inner, end in ((b'{"error":', b"}"), (b"[", b"]"), (b'{"message":[', b"]}")):
                response = requests.Response()
                response.status_code = 500
                response._content = inner * levels + b"1" + end * levels
                known = classify(requests.HTTPError("500 for url: x", response=response))
                self.assertIsInstance(known, exceptions.TransientError)

    def test_an_error_keeps_its_words(self):
        reply = json_reply({"error": {"message": "Slow down", "code": "x"}}, 429, Retry_After="7")
        with self.assertRaises(requests.HTTPError) as caught:
            self._ask(reply)

        known = classify(caught.exception)
        self.assertEqual((str(known), known.retry_after), ("HTTP 429: Slow down", 7.0))
        self.assertEqual(caught.exception.response.json()["error"]["code"], "x")
        self.assertIsNone(caught.exception.response.request)

    def test_a_redirect_is_an_error(self):
        with self.assertRaises(requests.HTTPError):
            self._ask(Reply(302, headers={"Location": f"{self.remote.url}/other"}))
        self.assertEqual(len(self.remote.requests), 1)

    def test_an_answer_that_is_too_large_is_not_read_to_its_end(self):
        for reply in (Reply(200, bytes(BOMB)), Reply(200, chunks=[bytes(1_000_000)] * 100)):
            error = self._refused(reply, limit=5_000_000)

            self.assertIsInstance(error, bounded_http.TooLargeError)

    def test_an_answer_of_too_many_values_or_levels_is_none(self):
        for body in (
            b'{"a": [' + b"[]," * 5_000_000 + b"1]}",
            b'{"a": [' + b"{}," * 5_000_000 + b"1]}",
            b'{"a": ' * 100_000,
            b"[" * 100_000 + b"]" * 100_000,
            b"[1]",
            b"1",
            b"\xff",
            b"",
        ):
            with self.subTest(body[:10]):
                error = self._refused_json(body)

                self.assertIn("127.0.0.1 answered with something else", str(error))
                start = body[:20].decode("utf-8", "replace").strip()
                self.assertIn(f"It begins with: {start}", str(classify(error)))

    def _refused_json(self, body):
        with self.assertRaises(bounded_http.UnreadableError) as caught:
            self._ask(Reply(200, body))
        return caught.exception

    def test_a_large_answer_of_few_values_is_one(self):
        value = {"image": "A" * 10_000_000, "numbers": [*range(100_000)]}

        self.assertEqual(self._ask(Reply(200, json.dumps(value).encode())), value)

    def test_an_answer_that_drips_ends_in_time(self):
        for limit in (10_000, 10_000_000):
            self.remote.fault(drip)
            response = self._response(Reply(200, b'{"a": "%s"}' % (b"x" * 1000)))
            start = time.monotonic()

            with self.assertRaises(requests.ReadTimeout):
                bounded_http.read_json(response, limit, seconds=0.3)

            self.assertLess(time.monotonic() - start, 3)

    def test_an_error_that_drips_ends_in_time(self):
        self.remote.fault(lambda handler, reply: drip(handler, reply, 500))
        response = self._response(Reply(500, b"x" * 1000))
        start = time.monotonic()

        with patch.object(bounded_http, "ERROR_SECONDS", 0.3):
            known = classify(requests.HTTPError("bad", response=response))

        self.assertIsInstance(known, exceptions.TransientError)
        self.assertLess(time.monotonic() - start, 3)

    def test_an_answer_that_breaks_off_is_none(self):
        for fault in (half, reset):
            self.remote.fault(fault)
            with self.assertRaises(requests.RequestException):
                self._ask(json_reply({"a": "b" * 100_000}))
        self.remote.fault(half)
        with self.assertRaises(requests.exceptions.ChunkedEncodingError):
            self._ask(Reply(200, chunks=[b'{"a": 1}', b" " * 1000]))

    def _lines(self, reply, **kwargs):
        self.remote.reply = reply
        return bounded_http.request_lines("GET", self.remote.url, timeout=5, **kwargs)

    def test_lines_are_objects_however_they_come(self):
        wanted = [{"a": number, "text": "é" * number} for number in range(300)]
        text = b"\n".join(json.dumps(one).encode() for one in wanted)

        for reply in (
            Reply(200, text),
            Reply(200, text.replace(b"\n", b"\r\n\r\n") + b"\n"),
            Reply(200, chunks=[text[place : place + 7] for place in range(0, len(text), 7)]),
        ):
            self.assertEqual([*self._lines(reply)], wanted)
        self.assertEqual([*self._lines(Reply(200, b""))], [])

    def test_a_line_that_cannot_be_read_is_left_out(self):
        for bad in (b"[1]", b"{", b"x" * 200, b"x" * 200_000):
            for before in (b"", b'{"a": 1}\n'):
                reply = Reply(200, before + bad + b'\n{"a": 2}\n{"a": 3}')
                with (
                    self.subTest(bad[:9]),
                    self.assertLogs(bounded_http._logger, "WARNING") as logs,
                ):
                    told = [line["a"] for line in self._lines(reply, limit=100)]
                self.assertEqual(told, [1, 2, 3] if before else [2, 3])
                self.assertEqual(len(logs.output), 1)
                self.assertNotIn("xxx", logs.output[0], "what was answered is for nobody's log")

    def test_what_has_no_line_that_can_be_read_is_no_answer(self):
        for bad in (b"<html>\n</html>\n", b"[1]\n", b"x" * 200):
            lines = self._lines(Reply(200, bad), limit=100)
            with self.subTest(bad[:9]), self.assertRaises(bounded_http.UnreadableError):
                list(lines)

    def test_a_last_line_that_breaks_off_is_asked_for_again(self):
        lines = self._lines(Reply(200, b'{"a": 1}\n{"a": '))
        self.assertEqual(next(lines), {"a": 1})
        with self.assertRaises(bounded_http.UnreadableError):
            next(lines)

    def test_lines_have_bounds_in_bytes_and_in_time(self):
        with self.assertRaises(bounded_http.UnreadableError):
            next(self._lines(Reply(200, bytes(BOMB)), limit=5_000_000))
        bomb = Reply(200, self.bomb, headers={"Content-Encoding": "gzip"})
        with self.assertRaises(bounded_http.UnreadableError):
            next(self._lines(bomb))
        self.remote.fault(drip)
        lines = self._lines(Reply(200, b'{"a": 1}\n' * 200))
        with patch.object(bounded_http, "LINES_SECONDS", 0.3):
            self.assertRaises(requests.ReadTimeout, list, lines)

    def test_lines_of_a_refusal_or_a_broken_answer_are_errors(self):
        with self.assertRaises(requests.HTTPError):
            next(self._lines(json_reply({"error": "No."}, 404)))
        self.remote.fault(half)
        with self.assertRaises(requests.RequestException):
            [*self._lines(Reply(200, b'{"a": 1}\n' * 100_000))]


@tagged("post_install", "-at_install")
class TestMemory(BaseCase):
    """What all answers of a process take together while they are read."""

    def setUp(self):
        super().setUp()
        self.startPatcher(patch.object(bounded_http, "MEMORY_PATIENCE", 0.05))
        self.memory = bounded_http.Memory(100)

    def test_a_host_gets_no_more_than_it_leaves_to_others(self):
        with self.memory.of("one") as first, self.memory.of("one") as second:
            first(30)
            second(20)
            with self.assertRaises(bounded_http.NoRoomError):
                first(1)
            with self.memory.of("other") as other:
                other(25)
                with self.assertRaises(bounded_http.NoRoomError):
                    other(1)

    def test_what_has_been_read_is_given_back(self):
        for _answer in range(3):
            with contextlib.suppress(KeyError), self.memory.of("one") as take:
                take(50)
                raise KeyError
        with self.memory.of("one") as take:
            take(50)
        self.assertFalse(self.memory._taken)

    def test_who_finds_no_room_waits_for_it(self):
        self.startPatcher(patch.object(bounded_http, "MEMORY_PATIENCE", 10))
        with self.memory.of("one") as late:
            with self.memory.of("one") as early:
                early(50)
                waiter = threading.Thread(target=late, args=(50,), daemon=True)
                waiter.start()
                waiter.join(0.1)
                self.assertTrue(waiter.is_alive())
            waiter.join(5)
            self.assertFalse(waiter.is_alive())

    def test_answers_are_refused_that_have_no_room_together(self):
        remote = FakeHost()
        self.addCleanup(remote.close)
        self.startPatcher(patch.object(bounded_http, "MEMORY", self.memory))
        small, many = json_reply({"a": 1}), json_reply({"a": [1] * 9})
        for reply, is_too_much in ((small, True), (many, True), (json_reply({}), False)):
            remote.reply = reply
            with self.memory.of("127.0.0.1") as take:
                take(40 if reply is small else 0)
                if not is_too_much:
                    bounded_http.request_json("GET", remote.url, timeout=5)
                    continue
                with self.assertRaises(bounded_http.NoRoomError):
                    bounded_http.request_json("GET", remote.url, timeout=5)
