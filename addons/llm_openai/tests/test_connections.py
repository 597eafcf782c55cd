import socket
import threading
import time
from unittest.mock import patch

import requests

from odoo.tests import BaseCase, tagged

from .. import client, connections
from ..client import OpenAIClient
from ..connections import Line
from .common import API_KEY, ServerMixin, delta, json_answer, stream_answer

#: Seconds in which the other side has to have closed a connection.
SOON = 5.0


@tagged("post_install", "-at_install")
class TestConnections(ServerMixin, BaseCase):
    """Each call takes a connection that is alive, its own, and nobody else's."""

    def setUp(self):
        super().setUp()
        self.places, self.opened, self.sessions = [], [], connections.Sessions()
        self.enterContext(patch.object(client, "SESSIONS", self.sessions))
        self.client = OpenAIClient(self.api_base, API_KEY, (2, 5), self.opened.append)

    def _answer(self, answer=None):
        """Have the next request answered, and note the connection by which it came."""
        answer = answer or json_answer({"data": []})

        def noting(handler):
            self.places.append(handler.client_address)
            answer(handler)

        self.answer(noting)

    def _get(self, other=None, answer=None):
        self._answer(answer)
        return (other or self.client).get("models")

    def _connections(self):
        return len(set(self.places))

    def test_calls_one_after_another_take_one_connection(self):
        for _call in range(3):
            self._get()
        self._answer(stream_answer(delta("Hi", finish_reason="stop")))
        list(self.client.stream("chat/completions", {}))
        self._get()
        self.assertEqual((len(self.places), self._connections()), (5, 1))
        self.assertEqual(len(self.opened), 5)  # each is told of it

    def test_no_connection_is_taken_with_another_key_or_address(self):
        self._get()
        for other in (
            OpenAIClient(self.api_base, f"{API_KEY}-2"),
            OpenAIClient(self.api_base.replace("127.0.0.1", "localhost"), API_KEY),
            OpenAIClient(f"{self.api_base}/x", API_KEY),
        ):
            self._get(other)
        self.assertEqual(self._connections(), 4)

    def test_calls_at_the_same_time_have_a_connection_each(self):
        both = threading.Barrier(2)

        def answer(handler):
            both.wait(SOON)
            json_answer({"data": []})(handler)

        for _call in range(2):
            self._answer(answer)
        threads = [threading.Thread(target=self.client.get, args=["models"]) for _call in range(2)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(SOON)
        self.assertEqual((len(self.places), self._connections()), (2, 2))

    def test_what_was_not_read_to_its_end_is_not_kept(self):
        release = threading.Event()
        self.addCleanup(release.set)
        self._answer(stream_answer(delta("one"), lambda: release.wait(SOON)))
        stream = self.client.stream("chat/completions", {})
        next(stream)
        stream.close()
        self._answer(lambda _handler: release.wait(SOON))
        with self.assertRaises(requests.RequestException):
            OpenAIClient(self.api_base, API_KEY, (2, 0.1)).get("models")
        self._get()
        self.assertEqual(self._connections(), 3)

    def test_a_stream_whose_end_does_not_come_is_not_waited_for(self):
        release = threading.Event()
        self.addCleanup(release.set)

        def answer(handler):
            handler.start_stream()
            handler.send_chunk(b'data: {"choices": [{"delta": {"content": "Hi"}}]}\n\n')
            handler.send_chunk(b"data: [DONE]\n\n")
            release.wait(SOON)

        self._answer(answer)
        began = time.monotonic()
        events = list(self.client.stream("chat/completions", {}))
        self.assertEqual(len(events), 1)
        self.assertLess(time.monotonic() - began, SOON / 2)
        self._get()
        self.assertEqual(self._connections(), 2)

    def test_an_error_of_the_server_keeps_nothing(self):
        with self.assertRaises(requests.HTTPError):
            self._get(answer=json_answer({"error": "No"}, status=500))
        self._get()
        self.assertEqual(self._connections(), 2)

    def test_who_hangs_up_late_does_not_meet_the_call_that_has_the_connection_now(self):
        self._answer(stream_answer(delta("Hi", finish_reason="stop")))
        list(self.client.stream("chat/completions", {}, self.opened.append))

        def answer(handler):
            for late in late_ones:
                late.close()
            json_answer({"data": ["whole"]})(handler)

        late_ones = list(self.opened)
        self.assertEqual(self._get(answer=answer), {"data": ["whole"]})
        self.assertEqual((len(late_ones), self._connections()), (2, 1))

    def test_the_call_that_has_a_kept_connection_can_be_hung_up_on(self):
        self._get()
        release = threading.Event()
        self.addCleanup(release.set)
        self._answer(lambda _handler: release.wait(SOON))

        def hang_up():
            self.opened[-1].close()

        threading.Timer(0.2, hang_up).start()
        began = time.monotonic()
        with self.assertRaises(requests.RequestException):
            self.client.get("models")
        self.assertLess(time.monotonic() - began, SOON / 2)
        self.assertEqual(self._connections(), 1)

    def test_what_was_hung_up_on_as_it_ended_is_not_kept(self):
        mine, other = socket.socketpair()
        self.addCleanup(mine.close)
        self.addCleanup(other.close)
        line = Line()
        line.connected(mine)
        self.assertTrue(line.let_go())
        line.close()
        other.send(b"x")
        self.assertEqual(mine.recv(1), b"x")  # nobody shut it down

        line = Line()
        line.connected(mine)
        line.close()
        self.assertEqual(mine.recv(1), b"")
        self.assertFalse(line.let_go())

        self._answer()
        with self.client._answer("GET", "models") as (response, line):
            response.raw.read()
            line.close()
        self._get()
        self.assertEqual(self._connections(), 2)

    def test_a_connection_that_the_server_has_closed_is_not_taken(self):
        closed, shutdown = threading.Event(), self.server.shutdown_request

        def answer(handler):
            json_answer({"data": []})(handler)
            handler.close_connection = True

        def close(request):
            shutdown(request)
            closed.set()

        with patch.object(self.server, "shutdown_request", close):
            self._get(answer=answer)
            self.assertTrue(closed.wait(SOON))
        self.assertTrue(self.sessions._kept)
        self._answer()
        self.client.post("chat/completions", {})
        self.assertEqual((len(self.server.requests), self._connections()), (2, 2))

    def test_a_connection_without_a_call_is_closed_soon(self):
        with patch.object(connections, "IDLE", 0.05):
            self._get()
            self.assertTrue(self.sessions._kept)
            deadline = time.monotonic() + SOON
            while self.sessions._kept and time.monotonic() < deadline:
                time.sleep(0.01)
            self.assertFalse(self.sessions._kept)
            with patch.object(self.sessions, "_close_old"):
                self._get()
                time.sleep(0.06)
                self._get()
        self.assertEqual(self._connections(), 3)

    def test_an_answer_is_there_where_no_thread_is_to_be_had(self):
        with patch.object(threading.Timer, "start", side_effect=RuntimeError):
            self._get()
            self._get()
        self.assertEqual((self._connections(), self.sessions._sweeper), (1, None))
        with patch.object(connections, "IDLE", 0.05):
            self._get()
            self.assertTrue(self.sessions._sweeper)

    def test_few_connections_without_a_call_are_kept(self):
        with patch.object(connections, "MOST", 2):
            for number in range(4):
                self._get(OpenAIClient(self.api_base, f"{API_KEY}{number}"))
            self.assertEqual(len(self.sessions._kept), 2)

    def test_a_cookie_of_one_answer_is_not_sent_with_the_next_call(self):
        cookie = json_answer({"data": []}, headers=[("Set-Cookie", "who=somebody; Path=/")])
        self._get(answer=cookie)
        self._get()
        self.assertEqual(self._connections(), 1)
        self.assertNotIn("Cookie", self.server.requests[-1][1])
