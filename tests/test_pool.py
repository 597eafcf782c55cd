import os
import threading
import time
from unittest.mock import Mock, patch

from odoo.tests import BaseCase, tagged

from ..runner import limits
from ..runner import runner as runners


class Stoppable(threading.Thread):
    """Ends a while after it was told to."""

    def __init__(self, takes):
        super().__init__(daemon=True)
        self._takes, self._told = takes, threading.Event()

    def stop(self):
        self._told.set()

    def run(self):
        self._told.wait(10)
        time.sleep(self._takes)


@tagged("post_install", "-at_install")
class TestPool(BaseCase):
    def setUp(self):
        super().setUp()
        self.startPatcher(patch.object(runners, "_stopping", threading.Event()))

    def _stop_all(self, *lists):
        with patch.object(runners, "ENDING", [lambda some=some: some for some in lists]):
            begin = time.monotonic()
            runners.stop_all()
            return time.monotonic() - begin

    def test_a_server_that_ends_waits_for_its_runners_at_the_same_time(self):
        threads = [Stoppable(0.4), Stoppable(0.4), Stoppable(0.0)]
        for thread in threads:
            thread.start()
        took = self._stop_all(threads[:1], threads[1:])
        self.assertFalse([thread for thread in threads if thread.is_alive()])
        self.assertLess(took, 0.8, "one after the other")

    def test_a_runner_that_does_not_end_does_not_keep_the_server(self):
        thread = Stoppable(3.0)
        thread.start()
        with patch.multiple(limits, GRACE=0.1, LEAVE_TIMEOUT=0.1):
            self.assertLess(self._stop_all([thread]), 2.0)

    def test_a_server_that_ends_starts_no_runner(self):
        self._stop_all([])
        with patch("odoo.addons.llm_generate_job.runner.runner.Runner") as runner:
            self.assertIsNone(runners.ensure("llm_generate_job_no_such_database"))
        runner.assert_not_called()

    def test_a_server_that_ends_has_no_use_for_the_runner_it_still_has(self):
        runner = Mock(dbname="llm_generate_job_no_such_database")
        with patch.dict(runners._runners, {(os.getpid(), runner.dbname): runner}):
            self.assertIs(runners.ensure(runner.dbname), runner)
            self._stop_all([])
            self.assertIsNone(runners.ensure(runner.dbname))

    def test_a_second_sighup_does_not_end_what_is_to_reload(self):
        thread = Stoppable(0.3)
        thread.start()
        sleep, signals, waiting = time.sleep, [KeyboardInterrupt], threading.current_thread()

        def interrupted(seconds):
            if signals and threading.current_thread() is waiting:
                raise signals.pop()
            sleep(seconds)

        with patch.object(runners.time, "sleep", interrupted):
            self._stop_all([thread])
        self.assertFalse(signals or thread.is_alive())

    def test_without_a_runner_of_its_own_it_leaves_the_jobs_to_others(self):
        server = patch.multiple(runners.server, server=Mock(), ThreadedServer=Mock)
        config = patch.object(runners, "config", {"max_cron_threads": 1, "test_enable": False})
        with server, config:
            self.assertTrue(runners.starts_by_itself())
            self._stop_all([])
            self.assertFalse(runners.starts_by_itself())
