import contextlib
import os
import socket
import threading
import time
from unittest.mock import Mock, patch

import psycopg2

from odoo.tests import BaseCase, tagged

from ..protocol.answer import Claim
from ..runner import limits, thread_lock
from ..runner.executor import Executions, JobContext, Running
from ..runner.notifier import CONNECTION
from ..runner.runner import Heart

HEART = "odoo.addons.llm_generate_job.runner.runner"
#: Far more than anything here waits.
SOON = 10


@tagged("post_install", "-at_install")
class TestHeart(BaseCase):
    def setUp(self):
        super().setUp()
        self.enterContext(patch.multiple(limits, FENCE=0.3, HEARTBEAT=0.05, POLL_INTERVAL=0.02))
        self.calls = Running()

    def _heart(self, beat):
        heart = Heart("test", beat, self.calls)
        self.addCleanup(heart.stop)
        return heart

    def test_a_runner_without_a_heartbeat_stops_its_calls(self):
        call = self.calls.add(Claim(1, 1))
        for beat in (Mock(side_effect=psycopg2.OperationalError), Mock(return_value=False)):
            call.cancelled = False
            heart = self._heart(beat)
            began = time.monotonic()
            with self.assertLogs(HEART, "ERROR"):
                heart.start()
                while not call.cancelled and time.monotonic() < began + SOON:
                    time.sleep(0.01)
            self.assertTrue(call.cancelled)
            self.assertGreaterEqual(time.monotonic() - began, limits.FENCE)
            self.assertTrue(heart.is_silent)
            heart.stop()
            heart.join(SOON)

    def test_a_heartbeat_that_hangs_stops_them_as_well(self):
        call, hangs = self.calls.add(Claim(1, 1)), threading.Event()
        self.addCleanup(hangs.set)
        with self.assertLogs(HEART, "ERROR"):
            self._heart(lambda: hangs.wait(SOON)).start()
            began = time.monotonic()
            while not call.cancelled and time.monotonic() < began + SOON / 2:
                time.sleep(0.01)
        self.assertTrue(call.cancelled)

    def test_it_beats_where_the_runner_is_late(self):
        call = self.calls.add(Claim(1, 1))
        heart = self._heart(lambda: True)
        heart.start()
        time.sleep(4 * limits.FENCE)
        self.assertFalse(call.cancelled or heart.is_silent)

    def test_nothing_is_begun_in_the_name_of_a_silent_runner(self):
        executions, ended = Executions(Mock(), "test", lambda: None), threading.Event()
        self.addCleanup(executions.stop)
        executions.is_silent = lambda: True
        stored = []

        def store(pairs, _is_last):
            stored.extend(pairs)
            ended.set()

        context = JobContext(Claim(1, 1), 1, {}, {("llm.provider", 1): {}})
        with patch.object(executions, "_finish", store):
            # Which notes the database on its thread.
            threading.Thread(target=executions.execute, args=(context, "_run")).start()
            self.assertTrue(ended.wait(SOON))
        executions._models.engine.assert_not_called()
        self.assertEqual(stored[0][1].error_type, "overloaded")


@tagged("post_install", "-at_install")
class TestSilence(BaseCase):
    """A network that swallows what is sent to it."""

    def test_a_connection_notices_that_the_other_side_is_gone(self):
        server = self.enterContext(socket.create_server(("127.0.0.1", 0)))
        host, port = server.getsockname()
        with contextlib.closing(
            psycopg2.connect(host=host, port=port, async_=True, **CONNECTION)
        ) as connection:
            end = self.enterContext(socket.socket(fileno=os.dup(connection.fileno())))
        self.assertTrue(end.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE))
        if hasattr(socket, "TCP_USER_TIMEOUT"):
            timeout = end.getsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT)
            self.assertEqual(timeout, 15_000)

    def test_a_lock_whose_session_hangs_holds_up_no_other_database(self):
        hangs, entered = threading.Event(), threading.Event()
        self.addCleanup(hangs.set)
        sessions = {}

        def ask(session, _statement, _key):
            if session.dbname == "hanging":
                entered.set()
                hangs.wait(SOON)
            return True

        with (
            patch.object(thread_lock, "_sessions", sessions),
            patch.object(thread_lock, "private_connection", lambda _name: Mock(closed=0)),
            patch.object(thread_lock._Session, "_ask", ask),
            patch.object(thread_lock, "IO_TIMEOUT", 0.1),
        ):
            stuck = threading.Thread(target=thread_lock.try_lock, args=("hanging", 1), daemon=True)
            stuck.start()
            self.assertTrue(entered.wait(SOON))
            self.assertTrue(thread_lock.try_lock("other", 1))
            self.assertFalse(thread_lock.try_lock("hanging", 1), "as it may be taken")
            with self.assertRaises(psycopg2.OperationalError):
                thread_lock.try_lock("hanging", 2)
            self.assertNotIn(2, thread_lock._session("hanging").held)
            hangs.set()
            stuck.join(SOON)
