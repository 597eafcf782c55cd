import contextlib
import threading
import time
from unittest.mock import Mock, patch

import psycopg2

from odoo.tests import TransactionCase, tagged

from ..runner import notifier
from ..runner.notifier import private_connection

CHANNEL = "llm_generate_job_test_hub"
LISTENING = "SELECT pid FROM pg_stat_activity WHERE query LIKE 'LISTEN%%' || %s || '%%'"


@tagged("post_install", "-at_install")
class TestHub(TransactionCase):
    def setUp(self):
        super().setUp()
        self.dbname = self.env.cr.dbname
        self.startPatcher(patch.object(notifier, "IDLE_TIMEOUT", 0.2))
        self.startPatcher(patch.object(notifier, "POLL_INTERVAL", 0.05))
        self.addCleanup(self._wait_until, lambda: not self._notifiers())

    def _notifiers(self):
        return [one for one in notifier._notifiers.values() if one.channel == CHANNEL]

    def _wait_until(self, condition):
        deadline = time.monotonic() + 10
        while not condition():
            self.assertLess(time.monotonic(), deadline)
            time.sleep(0.02)

    def _listen(self, payload):
        return notifier.listen(self.dbname, CHANNEL, payload)

    def _execute(self, statement, params):
        with contextlib.closing(private_connection(self.dbname)) as connection:
            cursor = connection.cursor()
            cursor.execute(statement, params)
            return cursor.fetchall()

    def _notify(self, payload):
        self._execute("SELECT pg_notify(%s, %s)", [CHANNEL, payload])

    def test_each_hears_what_concerns_it(self):
        with self._listen("7") as seven, self._listen("8") as eight:
            self._notify("7")
            self.assertTrue(seven.wait(5))
            self.assertFalse(eight.wait(0.1))
            self.assertFalse(seven.wait(0.1))

    def test_many_wait_over_one_connection(self):
        with contextlib.ExitStack() as stack:
            subscriptions = [
                stack.enter_context(self._listen(str(number % 3))) for number in range(12)
            ]
            self.assertEqual(len(self._notifiers()), 1)
            self._notify("1")
            self.assertEqual(
                [
                    subscription.wait(1 if n % 3 == 1 else 0)
                    for n, subscription in enumerate(subscriptions)
                ].count(True),
                4,
            )

    def test_a_lost_connection_is_replaced(self):
        with self._listen("7") as subscription:
            [(pid,)] = self._execute(LISTENING, [CHANNEL])
            self._execute("SELECT pg_terminate_backend(%s)", [pid])
            self.assertTrue(subscription.wait(5), "something may have been missed")
            self._notify("7")
            self.assertTrue(subscription.wait(5))

    def test_it_ends_when_nobody_waits(self):
        with self._listen("7"):
            [thread] = self._notifiers()
            time.sleep(0.4)
            self.assertTrue(thread.is_alive())
        thread.join(10)
        self.assertFalse(thread.is_alive())
        self.assertFalse(self._notifiers())

    def test_nobody_looks_for_another_while_the_server_goes_down(self):
        with self._listen("7") as subscription:
            [thread] = self._notifiers()
            with patch.object(
                notifier.threading, "main_thread", lambda: Mock(**{"is_alive.return_value": False})
            ):
                thread.join(10)
                begin = time.monotonic()
                self.assertTrue(subscription.wait(5))
                self.assertGreaterEqual(time.monotonic() - begin, notifier.POLL_INTERVAL)
                self.assertFalse(self._notifiers())

    def test_a_database_that_is_away_is_told(self):
        away = psycopg2.OperationalError("away")
        with (
            patch.object(notifier, "Listener", side_effect=away),
            self.assertRaises(psycopg2.OperationalError),
        ):
            self._listen("7")

    def test_what_is_said_while_threads_come_and_go_is_heard(self):
        missed = []

        def wait(payload):
            with self._listen(payload) as subscription:
                self._notify(payload)
                if not subscription.wait(10):
                    missed.append(payload)

        threads = [threading.Thread(target=wait, args=[str(n)]) for n in range(20)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(30)
        self.assertFalse(missed)
