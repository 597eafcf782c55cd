import threading
import time
from unittest.mock import patch

from odoo.tests import BaseCase, tagged

from ..runner.executor import Workers


@tagged("post_install", "-at_install")
class TestWorkers(BaseCase):
    def test_it_runs_no_more_than_its_size_at_once(self):
        freed = threading.Semaphore(0)
        workers = Workers(3, "test", freed.release)
        guard, running, most = threading.Lock(), [0], [0]

        def work():
            with guard:
                running[0] += 1
                most[0] = max(most[0], running[0])
            time.sleep(0.02)
            with guard:
                running[0] -= 1

        for _piece in range(9):
            workers.submit(work)
        self.assertEqual(workers.free, 0)
        for _piece in range(9):
            self.assertTrue(freed.acquire(timeout=5))
        self.assertEqual(most[0], 3)
        self.assertEqual(workers.free, 3)

    def test_a_piece_that_fails_costs_no_worker(self):
        freed = threading.Semaphore(0)
        workers = Workers(1, "test", freed.release)
        with self.assertLogs("odoo.addons.llm_generate_job.runner.executor", "ERROR"):
            workers.submit(lambda: 1 / 0)
            self.assertTrue(freed.acquire(timeout=5))
        done = []
        workers.submit(done.append, 1)
        self.assertTrue(freed.acquire(timeout=5))
        self.assertEqual(done, [1])

    def test_what_would_end_a_thread_costs_no_worker(self):
        freed = threading.Semaphore(0)
        workers = Workers(1, "test", freed.release)

        def end():
            raise SystemExit

        with self.assertLogs("odoo.addons.llm_generate_job.runner.executor", "ERROR"):
            for _time in range(3):
                workers.submit(end)
                self.assertTrue(freed.acquire(timeout=5))
        done = threading.Event()
        workers.submit(done.set)
        self.assertTrue(done.wait(5))

    def test_work_is_done_by_the_threads_there_are(self):
        started, go_on = threading.Event(), threading.Event()
        workers = Workers(3, "test", lambda: None)
        self.addCleanup(go_on.set)
        workers.submit(lambda: started.set() or go_on.wait(5))
        self.assertTrue(started.wait(5))
        done = threading.Event()
        logger = "odoo.addons.llm_generate_job.runner.executor"
        with patch.object(threading.Thread, "start", side_effect=RuntimeError):
            with self.assertLogs(logger, "WARNING"):
                workers.submit(done.set)
            with self.assertRaises(RuntimeError):
                Workers(1, "test", None).submit(done.set)
        self.assertEqual(workers.free, 1)
        go_on.set()
        self.assertTrue(done.wait(5))

    def test_work_that_found_no_thread_takes_no_place(self):
        workers = Workers(2, "test", lambda: None)
        no_thread = patch.object(threading.Thread, "start", side_effect=RuntimeError)
        with no_thread, self.assertRaises(RuntimeError):
            workers.submit(print)
        self.assertEqual(workers.free, 2)
        done = threading.Event()
        workers.submit(done.set)
        self.assertTrue(done.wait(5))
