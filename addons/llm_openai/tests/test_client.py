import socket
import threading
import time

import requests

from odoo.tests import BaseCase, tagged

from .. import errors
from ..client import OpenAIClient
from .common import API_KEY, ServerMixin, delta, json_answer, silence, stream_answer


@tagged("post_install", "-at_install")
class TestClient(ServerMixin, BaseCase):
    def setUp(self):
        super().setUp()
        self.client = OpenAIClient(self.api_base, API_KEY, timeout=(2, 0.4))

    def _assert_no_key(self, error):
        response = error.response
        texts = [str(error), repr(error), repr(vars(error))]
        if response is not None:
            texts += [response.text, repr(response.headers), repr(vars(response))]
        for text in texts:
            self.assertNotIn(API_KEY, text)
        self.assertIsNone(error.request)

    def test_the_key_goes_into_the_header_and_nowhere_else(self):
        self.answer(json_answer({"data": []}))

        self.client.get("models")

        path, headers, _body = self.server.requests[0]
        self.assertEqual(headers["Authorization"], f"Bearer {API_KEY}")
        self.assertNotIn(API_KEY, path)

    def test_without_a_key_no_credentials_are_sent(self):
        self.answer(json_answer({"data": []}))

        OpenAIClient(self.api_base).get("models")

        self.assertNotIn("Authorization", self.server.requests[0][1])

    def test_an_error_tells_status_and_the_servers_sentence(self):
        for body in (
            {"error": {"message": "No such model"}},
            {"error": "No such model"},
            {"detail": "No such model"},
            {"message": "No such model"},
        ):
            with self.subTest(body=body):
                self.answer(json_answer(body, status=404, headers=[("Retry-After", "7")]))

                with self.assertRaises(requests.HTTPError) as caught:
                    self.client.post("chat/completions", {})

                self.assertEqual(str(caught.exception), "HTTP 404: No such model")
                self.assertEqual(caught.exception.response.status_code, 404)
                self.assertEqual(caught.exception.response.headers["Retry-After"], "7")
                self.assertEqual(caught.exception.response.json(), body)

    def test_a_long_error_page_is_cut(self):
        page = b"<h1>Bad\ngateway</h1>" + b"x" * 100_000
        self.answer(lambda handler: handler.send_body(502, "text/html", page))

        with self.assertRaises(requests.HTTPError) as caught:
            self.client.get("models")

        self.assertTrue(str(caught.exception).startswith("HTTP 502: <h1>Bad gateway</h1>"))
        self.assertLess(len(str(caught.exception)), 520)

    def test_an_error_that_repeats_the_key_does_not_leak_it(self):
        echo = {"error": {"message": f"Wrong key {API_KEY}, got Bearer {API_KEY}", "code": "key"}}
        self.answer(json_answer(echo, status=401))

        with self.assertRaises(requests.HTTPError) as caught:
            self.client.get("models")

        self.assertIn("HTTP 401: Wrong key [hidden]", str(caught.exception))
        self.assertEqual(caught.exception.response.json()["error"]["code"], "key")
        self._assert_no_key(caught.exception)

    def test_another_key_in_an_error_is_hidden_too(self):
        self.assertEqual(
            errors.redact("Incorrect API key provided: sk-proj-abc***xyz, see ?key=AAAA&x=1"),
            "Incorrect API key provided: [hidden], see ?key=[hidden]&x=1",
        )

    def test_a_redirect_is_an_error_and_gets_no_second_request(self):
        self.answer(json_answer({}, status=307, headers=[("Location", f"{self.api_base}/other")]))

        with self.assertRaisesRegex(requests.HTTPError, "HTTP 307"):
            self.client.post("chat/completions", {})

        self.assertEqual(len(self.server.requests), 1)

    def test_nobody_at_the_address(self):
        with socket.socket() as unused:
            unused.bind(("127.0.0.1", 0))
            base = f"http://127.0.0.1:{unused.getsockname()[1]}/v1?key={API_KEY}"
            client = OpenAIClient(base, API_KEY)

            with self.assertRaises(errors.NewConnectionError) as caught:
                client.get("models")

        self.assertIn("127.0.0.1", str(caught.exception))
        self._assert_no_key(caught.exception)

    def test_silence_is_a_read_timeout(self):
        self.answer(silence(1))

        with self.assertRaises(requests.ReadTimeout) as caught:
            self.client.post("chat/completions", {})

        self._assert_no_key(caught.exception)

    def test_silence_in_the_middle_of_a_stream_is_a_read_timeout(self):
        self.answer(stream_answer(delta("one"), lambda: time.sleep(1), delta("two")))
        stream = self.client.stream("chat/completions", {})

        self.assertEqual(next(stream), delta("one"))
        with self.assertRaises(requests.ReadTimeout):
            next(stream)

    def test_a_connection_cut_in_the_middle_of_a_stream_is_told(self):
        for options in ({"cut": True}, {"cut": False}):
            with self.subTest(options):
                self.answer(stream_answer(delta("one"), done=False, **options))

                with self.assertRaises(requests.exceptions.ChunkedEncodingError):
                    list(self.client.stream("chat/completions", {}))

    def test_an_answer_that_is_whole_counts_though_its_connection_breaks(self):
        end = {"choices": [{"delta": {}, "finish_reason": "stop"}]}
        self.answer(stream_answer(delta("one"), end, done=False, cut=True))

        self.assertEqual(list(self.client.stream("chat/completions", {})), [delta("one"), end])

    def test_what_looks_like_keys_takes_no_time(self):
        began = time.monotonic()
        errors.redact("key-" * 16000)
        self.assertLess(time.monotonic() - began, 1)
        self.assertEqual(errors.redact("key-abc1234"), "[hidden]")

    def test_events_arrive_one_by_one(self):
        release = threading.Event()
        self.addCleanup(release.set)
        self.answer(stream_answer(delta("one"), release.wait, delta("two")))
        client = OpenAIClient(self.api_base, API_KEY)
        stream = client.stream("chat/completions", {})

        self.assertEqual(next(stream), delta("one"))
        release.set()
        self.assertEqual(list(stream), [delta("two")])

    def test_an_event_split_over_packets_is_put_together(self):
        self.answer(
            stream_answer(
                b'data: {"choices": [{"delta": {"con', b'tent": "h\xc3', b'\xa9"}}]}\n\n: ping\n\n'
            )
        )

        events = list(self.client.stream("chat/completions", {}))

        self.assertEqual(events, [{"choices": [{"delta": {"content": "hé"}}]}])

    def test_another_thread_can_close_a_stream_that_waits(self):
        release = threading.Event()
        self.addCleanup(release.set)
        self.answer(stream_answer(delta("one"), lambda: release.wait(20)))
        opened = []
        client = OpenAIClient(self.api_base, API_KEY)
        stream = client.stream("chat/completions", {}, on_response=opened.append)
        next(stream)
        start = time.monotonic()
        threading.Timer(0.2, opened[0].close).start()

        with self.assertRaises(requests.exceptions.ChunkedEncodingError):
            next(stream)

        self.assertLess(time.monotonic() - start, 5)

    def test_another_thread_can_close_a_call_that_waits_for_its_headers(self):
        release = threading.Event()
        self.addCleanup(release.set)
        opened = []
        client = OpenAIClient(self.api_base, API_KEY, on_connection=opened.append)
        calls = (
            lambda: client.post("chat/completions", {}),
            lambda: list(client.stream("chat/completions", {})),
        )

        def close():
            opened[-1].close()

        for call in calls:
            self.answer(lambda _handler: release.wait(20))
            threading.Timer(0.2, close).start()
            start = time.monotonic()
            with self.assertRaises(requests.RequestException):
                call()
            self.assertLess(time.monotonic() - start, 5)
        self.assertEqual(len(opened), 2)

    def test_an_answer_that_is_not_json_says_to_check_the_address(self):
        self.answer(lambda handler: handler.send_body(200, "text/html", b"<html>Welcome</html>"))

        with self.assertRaisesRegex(requests.ConnectionError, "check the API base"):
            self.client.get("models")
