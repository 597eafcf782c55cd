import contextlib
import gc
import os
import socket
import threading
import time
from unittest.mock import Mock, call, patch

import psycopg2
import requests

from odoo.tests import BaseCase, TransactionCase, get_db_name, tagged
from odoo.tools import mute_logger

from ..protocol import bounded_http
from ..protocol.answer import Claim
from ..runner import executor as finisher_module
from ..runner import limits, notifier, thread_lock
from ..runner import runner as runner_module
from ..runner.cursor import EngineCursor
from ..runner.executor import Completer, Execution, Running, Threads
from ..runner.messages import Cancelled
from ..runner.notifier import Listener, Outbox, is_gone, private_connection
from ..runner.runner import Runner, warn_of_old_tables, warn_without_cron

CHANNEL = "llm_generate_job_test"
#: Never an id of a thread.
KEY = 2**31 - 7


@tagged("post_install", "-at_install")
class TestRunner(BaseCase):
    def test_a_thread_that_is_freed_while_none_was_is_noticed(self):
        runner = Runner("llm_generate_job_test")
        runner.threads = Mock(free=1)
        full = patch.object(runner, "_executor", return_value=Mock(free=0))
        with full, patch.object(runner, "_is_over", return_value=False):
            runner._claim([7])
        self.assertEqual(runner._woken.left, 0.0)
        self.assertIsNone(runner._woken.take(), "all queues: who knows which had a job")

    def test_after_a_look_it_rests_as_long_as_that_took_but_not_for_long(self):
        runner = Runner("llm_generate_job_test")
        now, looks = [100.0], []
        runner._due = runner_module.Timers(*runner._due._at, clock=lambda: now[0])
        for name in ("clock", "maintain"):
            runner._due.put_off(name, 60)

        def fetch():
            looks.append(1)
            now[0] += took

        with (
            patch.object(runner_module.time, "monotonic", lambda: now[0]),
            patch.object(runner, "_fetch", fetch),
            patch.object(runner, "_is_idle", return_value=True),
            patch.object(runner, "_retire"),
        ):
            for took, rest in ((0.001, 0.001), (3.0, runner_module.LONGEST_REST)):
                with self.subTest(took=took):
                    looks.clear()
                    runner._tick()
                    runner._tick()
                    self.assertEqual(len(looks), 1)
                    self.assertAlmostEqual(runner._due.left("fetch"), rest)
                    now[0] += 0.01

    def test_errands_of_addons_are_done_by_threads_of_their_own(self):
        runner = Runner("llm_generate_job_test")
        runner._models = models = Mock()
        engine, done, may_end = models.engine.return_value, [], threading.Event()
        engine._next_due.side_effect = [0, 30]
        engine._claim_polls.return_value = engine._claim_cancellations.return_value = []
        engine._claim_errands.return_value = [("_go", 7, "a"), ("_go", 8, "b")]

        def go(*args):
            may_end.wait(10)
            done.append(args)

        engine._go = go
        runner._run_scheduler()  # does not wait for them
        may_end.set()

        deadline = time.monotonic() + 10
        while len(done) < 2 and time.monotonic() < deadline:
            time.sleep(0.01)
        engine._claim_errands.assert_called_once_with(limits.ERRANDS)
        self.assertEqual(sorted(done), [(7, "a"), (8, "b")])

    def test_no_more_cancellations_are_taken_than_there_are_threads_for(self):
        runner = Runner("llm_generate_job_test")
        runner._models, runner.cancellers = models, cancellers = Mock(), Mock()
        engine = models.engine.return_value
        engine._claim_polls.return_value = engine._claim_errands.return_value = []
        engine._claim_cancellations.side_effect = lambda limit: [7, 8, 9][:limit]
        engine._next_due.side_effect = [0, 30]
        cancellers.free = 2
        runner._run_scheduler()
        taken = [call(engine._cancel_at_provider, job_id) for job_id in (7, 8)]
        self.assertEqual(cancellers.submit.mock_calls, taken)

    def test_who_comes_to_the_database_takes_nobody_for_dead_at_once(self):
        for was_away, first in ((False, 1), (True, 0)):
            with self.subTest(was_away=was_away):
                self._check_rescues(was_away, first)

    def _check_rescues(self, was_away, first):
        runner = Runner("llm_generate_job_test")
        runner._was_away = was_away
        runner._models, runner.listener, runner.threads = Mock(), Mock(), Mock(slots=4)
        runner.heart, engine = Mock(), runner._models.engine.return_value
        engine._held_at_providers.return_value = []
        with (
            patch.object(runner_module, "time") as time_,
            patch.object(runner, "_executor"),
            patch.object(runner, "_test_hearing"),
        ):
            later = 1001 + 3 * limits.HEARTBEAT
            for now, more in ((1000, first), (1001, 0), (later, 1)):
                time_.monotonic.return_value = now
                engine._rescue.reset_mock()
                if now < later:  # the second time it is back
                    runner._register()
                runner._maintain()
                self.assertEqual(engine._rescue.call_count, more)

    def test_a_heartbeat_needs_no_environment(self):
        runner = Runner(get_db_name())
        runner._models = Mock(engine=Mock(side_effect=AssertionError))
        self.assertFalse(runner._beat(), "before it has signed on")
        runner.runner_id, runner._heartbeat = 7, Mock(return_value=True)
        self.assertTrue(runner._beat())
        (cr, runner_id), _kwargs = runner._heartbeat.call_args
        self.assertEqual((type(cr), runner_id), (EngineCursor, 7))

    def test_a_cancellation_in_the_grace_of_a_shutdown_is_taken(self):
        runner = Runner("llm_generate_job_test")
        runner._models, runner.listener = Mock(), Mock()
        calls = runner.executions.calls
        response = Mock(spec=["close"], close=Mock(side_effect=calls.clear))
        calls.add(Claim(7, 1)).on_response(response)
        runner.listener.wait.side_effect = [[], [Cancelled([6, 7]).payload], *[[]] * 1000]
        runner.threads = Threads(runner._models, runner.executions, Mock(free=1, size=2))
        with patch.object(runner, "_executor", return_value=runner.threads):
            runner._leave()
        response.close.assert_called_once_with()
        self.assertEqual(runner.listener.wait.call_count, 2, "nothing runs any more")

    def _pauses(self, seconds, losses=8):
        """Return how long a runner waits after each loss of a database that it serves so long."""
        runner, clock, pauses = Runner(get_db_name()), [0.0], []

        def serve():
            clock[0] += seconds
            if len(pauses) == losses:
                runner._stopping.set()
            raise psycopg2.OperationalError

        with (
            patch.object(runner, "_serve", serve),
            patch.object(runner, "executions"),
            patch.object(runner_module, "time") as time_,
            self.assertLogs("odoo.addons.llm_generate_job.runner.runner", "INFO"),
        ):
            time_.monotonic.side_effect = lambda: clock[0]
            time_.sleep.side_effect = pauses.append
            runner.run()
        return pauses

    def test_a_runner_that_does_not_get_back_waits_longer_each_time(self):
        self.assertEqual(self._pauses(0), [0.2, 0.4, 0.8, 1.6, 3.2, 5.0, 5.0, 5.0])

    def test_a_runner_that_had_got_back_begins_with_a_short_wait(self):
        self.assertEqual(self._pauses(60), [0.2] * 8)

    def test_a_runner_of_a_database_that_is_gone_ends(self):
        runner = Runner("llm_generate_job_no_such_database")
        with self.assertLogs("odoo.addons.llm_generate_job.runner.runner", "INFO") as logs:
            runner.start()
            runner.join(30)
        self.assertFalse(runner.is_alive())
        warnings = [one for one in logs.records if one.levelname == "WARNING"]
        self.assertLessEqual(len(warnings), 1)

    @mute_logger("odoo.addons.llm_generate_job.runner.runner")
    def test_a_runner_that_ends_leaves_no_idle_connection(self):
        runner, left = Runner(get_db_name()), []

        def serve():
            with contextlib.closing(EngineCursor(get_db_name(), None)) as cursor:
                left.append(cursor._cnx)
            runner._stopping.set()

        with patch.object(runner, "_serve", serve):
            runner.run()
        self.assertTrue(left[0].closed)

    def test_code_that_is_newer_than_its_tables_serves_nothing_and_says_so_once(self):
        self.addCleanup(warn_of_old_tables.cache_clear)
        with self.assertLogs("odoo.addons.llm_generate_job.runner.runner", "WARNING") as logs:
            for _time in range(2):
                runner = Runner(get_db_name())
                engine = Mock(_newer_than_tables=Mock(return_value=["llm", "llm_x"]))
                runner._models = Mock(are_installed=True, engine=Mock(return_value=engine))
                runner.outbox.add([7])
                with patch.object(runner, "_register", side_effect=runner.stop) as register:
                    runner.run()
                register.assert_not_called()
                self.assertEqual(runner.claim(), 0)
                engine._executor.assert_not_called()
                engine._send_outbox.assert_called_once_with([7])
        [record] = logs.records
        self.assertIn("-u llm,llm_x", record.getMessage())

    def test_a_database_is_gone_only_where_its_server_says_so(self):
        self.assertFalse(is_gone(get_db_name()))
        self.assertTrue(is_gone("llm_generate_job_no_such_database"))
        away = patch.object(notifier, "private_connection", side_effect=psycopg2.OperationalError)
        with away:
            self.assertFalse(is_gone("llm_generate_job_no_such_database"))

    def test_a_server_that_runs_no_jobs_says_so_once(self):
        self.addCleanup(warn_without_cron.cache_clear)
        for cron_threads, times in ((2, 0), (0, 1)):
            config = {"max_cron_threads": cron_threads, "test_enable": False}
            with (
                patch.object(runner_module, "config", config),
                patch.object(runner_module._logger, "warning") as warning,
            ):
                warn_without_cron.cache_clear()
                warn_without_cron()
                warn_without_cron()
            self.assertEqual(warning.call_count, times)

    def _hearing(self, heard):
        """Return what a runner that hears these payloads, one a heartbeat, has noted of that."""
        runner, engine = Runner("llm_generate_job_test"), Mock()
        runner.runner_id, runner.threads, runner.listener = 7, Mock(load=0), Mock()
        for payload in heard:
            runner._said_at -= limits.HEARTBEAT
            runner._test_hearing(engine)
            runner.listener.wait.return_value = [payload] if payload else []
            runner._hear(0)
        said = {call.args for call in engine._say_hello.call_args_list}
        self.assertEqual(said, {(7,)})
        return [call.kwargs["is_deaf"] for call in engine._note_hearing.call_args_list]

    def test_a_runner_that_hears_nothing_says_so_once(self):
        with self.assertLogs("odoo.addons.llm_generate_job.runner.runner", "WARNING") as logs:
            self.assertEqual(self._hearing([""] * 9), [True])
            self.assertEqual(len(logs.output), 1)
            self.assertIn("hears nothing", logs.output[0])
            self.assertEqual(self._hearing(["hello:8"] * 9), [True], "another's")
            self.assertEqual(self._hearing([*[""] * 5, "hello:7", *[""] * 9]), [True, False])

    def test_a_runner_that_hears_is_quiet(self):
        with self.assertNoLogs("odoo.addons.llm_generate_job.runner.runner", "WARNING"):
            for heard in (["hello:7", *[""] * 9], ["", "", "hello:7", *[""] * 9]):
                self.assertEqual(self._hearing(heard), [])

    def test_no_thread_at_all_is_a_full_load(self):
        self.assertEqual(Threads(None, Mock(), Mock(free=0, size=0)).load, 1)
        self.assertEqual(Threads(None, Mock(), Mock(free=3, size=4)).load, 0.25)


@tagged("post_install", "-at_install")
class TestFinisher(BaseCase):
    def _completer(self, store, calls=range(100)):
        completer = Completer("test", lambda pairs, _is_last: store(pairs), calls)
        self.addCleanup(completer.join, 5)
        self.addCleanup(completer.stop)
        return completer

    def test_what_ends_together_is_stored_together(self):
        stored, ended = [], threading.Event()

        def store(pairs):
            stored.append(pairs)
            ended.set()

        completer = self._completer(store)
        for number in range(9):
            completer.put(number, "answer")
        completer.start()
        self.assertTrue(ended.wait(5))
        self.assertEqual(stored, [[(number, "answer") for number in range(9)]])

    def test_the_last_one_in_flight_waits_for_nobody(self):
        stored = threading.Event()
        completer = self._completer(lambda _pairs: stored.set(), calls=[1])
        with patch.object(finisher_module, "GATHER", 30):
            completer.start()
            completer.put(1, "answer")
            self.assertTrue(stored.wait(5))

    def test_what_comes_all_the_time_is_stored_all_the_same(self):
        ended = threading.Event()
        completer = self._completer(lambda _pairs: ended.set())
        completer.start()
        puts = 0
        while not ended.is_set() and puts < 20_000:
            completer.put(puts, "answer")
            puts += 1
            time.sleep(0.0005)
        self.assertLess(puts, 5000)

    def _assert_the_next_is_stored_after(self, failure):
        stored, failures = threading.Event(), iter([failure])

        def store(_pairs):
            for failure in failures:
                raise failure
            stored.set()

        completer = self._completer(store)
        completer.start()
        with self.assertLogs("odoo.addons.llm_generate_job.runner.executor", "ERROR"):
            completer.put(1, "answer")
            time.sleep(0.1)
        completer.put(2, "answer")
        self.assertTrue(stored.wait(5))

    def test_a_batch_that_is_lost_does_not_stop_the_next(self):
        self._assert_the_next_is_stored_after(ValueError)

    def test_what_would_end_the_thread_does_not(self):
        self._assert_the_next_is_stored_after(SystemExit)

    def test_what_is_held_is_tried_again_and_holds_up_nothing(self):
        stored, tries, ended = [], [], threading.Event()

        def store(pairs):
            held = [pair for pair in pairs if pair[0] == 1 and len(tries) < 3]
            tries.extend(held)
            stored.extend(pair for pair in pairs if pair not in held)
            if len(stored) == 2:
                ended.set()
            return held

        completer = self._completer(store, calls=[1])
        completer.put(1, "held")
        completer.start()
        time.sleep(0.01)
        completer.put(2, "free")
        self.assertTrue(ended.wait(5))
        self.assertEqual(stored, [(2, "free"), (1, "held")])

    def test_the_end_comes_after_everything_is_stored(self):
        stored = []
        completer = Completer("test", lambda pairs, _is_last: stored.extend(pairs), range(100))
        completer.put(1, "answer")
        completer.stop()
        completer.start()
        completer.join(5)
        self.assertEqual(stored, [(1, "answer")])


@tagged("post_install", "-at_install")
class TestNews(BaseCase):
    def test_each_job_is_told_of_once(self):
        told, news = [], Outbox()
        news.add([7, 3, 7])
        news.send(told.append)
        news.send(told.append)
        self.assertEqual(told, [[3, 7]])

    def test_what_a_database_that_is_away_does_not_take_is_told_later(self):
        told, news = [], Outbox()
        news.add([3])
        news.send(Mock(side_effect=psycopg2.OperationalError))
        news.add([4])
        news.send(told.append)
        self.assertEqual(told, [[3, 4]])

    def test_who_comes_after_the_end_is_told_so(self):
        told, news = [], Outbox()
        self.assertTrue(news.add([1]))
        news.close()
        self.assertFalse(news.add([2]))
        news.send(told.append)
        self.assertEqual(told, [[1]])


@tagged("post_install", "-at_install")
class TestCall(BaseCase):
    @contextlib.contextmanager
    def _stalling_server(self):
        """Yield the address of a server that sends one byte and then nothing more."""
        with socket.create_server(("127.0.0.1", 0)) as server:
            connections = []

            def serve():
                connection, _address = server.accept()
                connections.append(connection)
                connection.recv(65536)
                connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nx")

            thread = threading.Thread(target=serve, daemon=True)
            thread.start()
            try:
                yield f"http://127.0.0.1:{server.getsockname()[1]}/"
            finally:
                thread.join(5)
                for connection in connections:
                    connection.close()

    def test_cancelling_ends_a_read_that_would_wait_for_ever(self):
        with self._stalling_server() as url:
            call, failed = Execution(Claim(1, 1)), []
            response = requests.get(url, stream=True, timeout=30)
            call.on_response(response)

            def read():
                try:
                    response.content  # noqa: B018 - reads to the end
                except requests.RequestException as error:
                    failed.append(error)

            reader = threading.Thread(target=read, daemon=True)
            reader.start()
            time.sleep(0.05)
            call.cancel()
            reader.join(5)
            self.assertFalse(reader.is_alive())
            self.assertTrue(failed)

    def test_a_response_that_comes_after_the_cancellation_is_hung_up_on(self):
        with self._stalling_server() as url:
            call = Execution(Claim(1, 1))
            call.cancel()
            response = requests.get(url, stream=True, timeout=30)
            call.on_response(response)
            with self.assertRaises(requests.RequestException):
                response.content  # noqa: B018 - reads to the end

    @contextlib.contextmanager
    def _silent_server(self):
        """Yield the address of a server that reads and says nothing, and an event: one has come."""
        with socket.create_server(("127.0.0.1", 0)) as server:
            has_come, hung_up = threading.Event(), threading.Event()

            def serve():
                with server.accept()[0] as connection:
                    while connection.recv(65536):
                        has_come.set()
                    hung_up.set()

            thread = threading.Thread(target=serve, daemon=True)
            thread.start()
            try:
                yield f"http://127.0.0.1:{server.getsockname()[1]}/", has_come, hung_up
            finally:
                thread.join(5)

    def _in_thread(self, call, url, failed):
        def ask():
            try:
                with bounded_http.hung_up_by(call.on_response):
                    bounded_http.request_json("GET", url, timeout=30)
            except requests.RequestException as error:
                failed.append(error)

        thread = threading.Thread(target=ask, daemon=True)
        thread.start()
        return thread

    def test_a_call_is_hung_up_on_before_there_is_an_answer(self):
        with self._silent_server() as (url, has_come, hung_up):
            call, failed = Execution(Claim(1, 1)), []
            caller = self._in_thread(call, url, failed)
            self.assertTrue(has_come.wait(5))
            call.cancel()
            caller.join(5)
            self.assertFalse(caller.is_alive())
            self.assertTrue(failed)
            self.assertTrue(hung_up.wait(5))

    def test_a_call_that_is_cancelled_before_it_connects_is_hung_up_on_at_once(self):
        with self._silent_server() as (url, _has_come, hung_up):
            call, failed = Execution(Claim(1, 1)), []
            call.cancel()
            self._in_thread(call, url, failed).join(5)
            self.assertTrue(failed)
            self.assertTrue(hung_up.wait(5))

    def test_what_is_submitted_has_its_patience_and_a_server_that_ends_has_none(self):
        for hang_up, is_patient in ((Execution.cancel, True), (Execution.hang_up, False)):
            with self.subTest(is_patient=is_patient), self._silent_server() as (url, has_come, _up):
                call, failed = Execution(Claim(1, 1)), []
                call.patience = 1.0
                caller = self._in_thread(call, url, failed)
                self.assertTrue(has_come.wait(5))
                hang_up(call)
                caller.join(0.4)
                self.assertEqual(caller.is_alive(), is_patient)
                caller.join(5)
                self.assertTrue(failed)

    def test_questions_that_take_too_long_are_hung_up_on(self):
        polls = Running()
        old, young = polls.add(Claim(1, 1)), polls.add(Claim(2, 2))
        old.began_at -= 31
        polls.hang_up_on_old(30)
        self.assertEqual([old.cancelled, young.cancelled], [True, False])

    def test_a_server_that_ends_waits_for_what_it_hung_up_on(self):
        running, engine, order = Running(), Mock(), []
        call = running.add(Claim(1, 7))
        engine._snooze_claims.side_effect = lambda _claims: order.append("given back")
        call.on_response(Mock(spec=["close"], close=lambda: order.append("hung up")))

        def wait(_seconds):
            order.append("waited")
            running.pop(7, None)

        running.wind_up(engine, time.monotonic(), wait)
        self.assertEqual(order, ["given back", "hung up", "waited"])

    def test_a_provider_may_give_a_response_of_its_own(self):
        response = Mock(spec=["close"])
        call = Execution(Claim(1, 1))
        call.on_response(response)
        response.close.assert_not_called()
        call.cancel()
        response.close.assert_called_once_with()


@tagged("post_install", "-at_install")
class TestListener(TransactionCase):
    def _notify(self, payload):
        with contextlib.closing(private_connection(self.env.cr.dbname)) as connection:
            connection.cursor().execute("SELECT pg_notify(%s, %s)", [CHANNEL, payload])

    def test_it_hears_what_was_said_since_it_was_made(self):
        with Listener(self.env.cr.dbname, CHANNEL) as listener:
            self._notify("one")
            self._notify("two")
            heard = listener.wait(5)
            if len(heard) < 2:
                heard += listener.wait(5)
            self.assertEqual(heard, ["one", "two"])

    def test_a_listener_that_cannot_listen_leaves_nothing_open(self):
        def descriptors():
            gc.collect()
            return len(os.listdir("/proc/self/fd"))

        failure = patch.object(Listener, "execute", side_effect=psycopg2.OperationalError)
        with failure, self.assertRaises(psycopg2.OperationalError) as first:
            Listener(self.env.cr.dbname, CHANNEL)
        first.exception.__traceback__ = None
        before = descriptors()
        for _time in range(5):
            with failure, contextlib.suppress(psycopg2.OperationalError):
                Listener(self.env.cr.dbname, CHANNEL)
        self.assertLessEqual(descriptors(), before + 1)

    def test_what_is_no_longer_listened_to_is_listened_to_again(self):
        with Listener(self.env.cr.dbname, CHANNEL) as listener:
            listener.execute("UNLISTEN *")
            self._notify("lost")
            listener.listen()
            self._notify("heard")
            self.assertEqual(listener.wait(5), ["heard"])

    def test_it_waits_no_longer_than_it_was_told(self):
        with Listener(self.env.cr.dbname, CHANNEL) as listener:
            started = time.monotonic()
            self.assertEqual(listener.wait(0.1), [])
            self.assertLess(time.monotonic() - started, 5)

    def test_another_thread_can_wake_it(self):
        with Listener(self.env.cr.dbname, CHANNEL) as listener:
            timer = threading.Timer(0.05, listener.wake)
            timer.start()
            started = time.monotonic()
            self.assertEqual(listener.wait(30), [])
            self.assertLess(time.monotonic() - started, 10)
            timer.join()
        listener.wake()  # after its end: no error


@tagged("post_install", "-at_install")
class TestThreadLock(TransactionCase):
    def setUp(self):
        super().setUp()
        self.dbname = self.env.cr.dbname

    def test_a_thread_is_locked_once_at_a_time(self):
        with thread_lock.hold(self.dbname, KEY) as unlock:
            self.assertTrue(unlock)
            with thread_lock.hold(self.dbname, KEY) as second:
                self.assertIsNone(second)
            self.assertTrue(thread_lock.is_taken(self.dbname, KEY))
        self.assertFalse(thread_lock.is_taken(self.dbname, KEY))

    def test_the_lock_can_be_let_go_early(self):
        with thread_lock.hold(self.dbname, KEY) as unlock:
            unlock()
            self.assertFalse(thread_lock.is_taken(self.dbname, KEY))

    def test_what_was_let_go_early_is_left_to_who_has_it_now(self):
        with thread_lock.hold(self.dbname, KEY) as unlock:
            unlock()
            self.assertTrue(thread_lock.try_lock(self.dbname, KEY))
        self.addCleanup(thread_lock.unlock, self.dbname, KEY)
        self.assertTrue(thread_lock.is_taken(self.dbname, KEY))

    def test_the_lock_is_the_one_that_the_familys_code_takes(self):
        with contextlib.closing(private_connection(self.dbname)) as connection:
            cursor = connection.cursor()
            cursor.execute("SELECT pg_advisory_lock(%s)", [KEY])
            self.assertTrue(thread_lock.is_taken(self.dbname, KEY))
            with thread_lock.hold(self.dbname, KEY) as unlock:
                self.assertIsNone(unlock)
            cursor.execute("SELECT pg_advisory_unlock(%s)", [KEY])
            with thread_lock.hold(self.dbname, KEY) as unlock:
                self.assertTrue(unlock)

    def test_a_connection_that_was_lost_is_made_again(self):
        with thread_lock.hold(self.dbname, KEY):
            thread_lock._session(self.dbname).connection.close()
        with thread_lock.hold(self.dbname, KEY) as unlock:
            self.assertTrue(unlock)
