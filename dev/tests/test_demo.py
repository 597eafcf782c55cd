import contextlib
import io
import threading
import unittest
import urllib.error
import urllib.request
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import context  # noqa: F401
from demo_proxy import ModelProxy
from demo_view import WIDTH, Board, GrowingText, plain, table


class _Model(BaseHTTPRequestHandler):
    def do_POST(self):
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.server.barrier.wait(10)
        self.send_response(200)
        self.send_header("X-Key", self.headers.get("Authorization") or "")
        self.end_headers()
        self.wfile.write(self.path.encode() + b" " + body)

    def log_message(self, *_args):
        pass


class TestModelProxy(unittest.TestCase):
    def setUp(self):
        super().setUp()
        self.model = ThreadingHTTPServer(("127.0.0.1", 0), _Model)
        self.model.barrier = threading.Barrier(1)
        threading.Thread(target=self.model.serve_forever, daemon=True).start()
        self.addCleanup(self.model.server_close)
        self.addCleanup(self.model.shutdown)
        stack = contextlib.ExitStack()
        self.addCleanup(stack.close)
        base = f"http://127.0.0.1:{self.model.server_port}/v1"
        self.proxy = stack.enter_context(ModelProxy(base, failing="lighthouse"))
        self.opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))

    def ask(self, body):
        url = f"{self.proxy.api_base}/chat"
        request = urllib.request.Request(url, body, {"Authorization": "Bearer me"})
        with self.opener.open(request, timeout=10) as answer:
            return answer.headers["X-Key"], answer.read()

    def test_calls_are_passed_on_as_they_are(self):
        self.assertEqual(self.ask(b"hello"), ("Bearer me", b"/v1/chat hello"))
        self.assertEqual(self.proxy.failures, 0)

    def test_the_chosen_call_fails_once(self):
        with self.assertRaises(urllib.error.HTTPError) as caught:
            self.ask(b"a lighthouse")
        self.assertEqual(caught.exception.code, 500)
        self.assertEqual(self.ask(b"a lighthouse")[1], b"/v1/chat a lighthouse")
        self.assertEqual(self.proxy.failures, 1)

    def test_calls_at_the_same_time_are_counted(self):
        self.model.barrier = threading.Barrier(3)
        threads = [threading.Thread(target=self.ask, args=[b"x"]) for _number in range(3)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(10)
        self.assertEqual(self.proxy.most_at_once, 3)
        self.assertEqual(self.proxy.calls, 3)

    def test_a_model_that_is_away_is_a_bad_gateway(self):
        self.proxy.target = "http://127.0.0.1:9"
        with self.assertRaises(urllib.error.HTTPError) as caught:
            self.ask(b"hello")
        self.assertEqual(caught.exception.code, 502)


class TestView(unittest.TestCase):
    def shown(self, show):
        output = io.StringIO()
        with contextlib.redirect_stdout(output):
            show()
        lines = output.getvalue().splitlines()
        self.assertLessEqual(max(map(len, lines)), WIDTH)
        return lines

    def test_a_message_is_shown_as_text(self):
        self.assertEqual(plain("<p>Tea &amp;<br/>milk</p><p>now</p>"), "Tea & milk now")

    def test_a_growing_text_shows_each_word_once(self):
        words = [f"word{number}" for number in range(40)]

        def show():
            text = GrowingText("    4:")
            for count in range(0, 41, 5):
                text.show(" ".join(words[:count]))
            text.end()

        lines = self.shown(show)
        self.assertGreater(len(lines), 3)
        self.assertEqual(" ".join(lines).split(), ["4:", *words])

    def test_what_happens_while_a_text_grows_is_told_after_it(self):
        board = Board()

        def show():
            board.grow(4, "The cat wai")
            board.line("running", "5 runs")
            board.grow(4, "The cat waits.")
            board.end_text()

        lines = self.shown(show)
        self.assertEqual(lines[0].split(), ["4:", "The", "cat", "waits."])
        self.assertTrue(lines[1].endswith("> 5 runs"))

    def test_a_table_fits_whatever_was_answered(self):
        row = {
            "number": 8,
            "state": "completed",
            "wait": "123.4s",
            "run": "10.0s",
            "tokens": "1234+567",
            "retries": 3,
            "answer": "very long\n" * 50,
        }
        self.assertEqual(len(self.shown(lambda: table([row]))), 2)
