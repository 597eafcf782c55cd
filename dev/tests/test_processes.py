import os
import socket
import sys
import tempfile
import unittest
from pathlib import Path
from unittest.mock import patch

import context  # noqa: F401
from lib import processes

SLEEPER = [sys.executable, "-c", "import time; time.sleep(60)"]
_FORK = """\
import subprocess, sys, time
child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
print(child.pid, flush=True)
time.sleep(60)
"""
#: Starts another child whenever one dies, as a server does with its workers.
_RESTART = """\
import subprocess, sys
while True:
    child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
    print(child.pid, flush=True)
    child.wait()
"""
_ORPHAN = """\
import subprocess, sys
child = subprocess.Popen([sys.executable, "-c", 'import time; time.sleep(60)'], )
print(child.pid, flush=True)
"""
PARENT = [sys.executable, "-c", _FORK]


class TestProcesses(unittest.TestCase):
    def setUp(self):
        super().setUp()
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = Path(folder.name)
        self.ledger = processes.Ledger(self.folder / "pids.json")

    def start(self, command=SLEEPER):
        process = processes.start(command, self.folder / "log")
        self.addCleanup(process.kill)
        return process

    def test_what_was_written_down_is_stopped(self):
        process = self.start()
        self.ledger.add("odoo", process)
        self.assertEqual(self.ledger.stop_all(), ["odoo"])
        self.assertFalse(process.is_alive())

    def test_a_pid_that_another_program_has_now_is_left_alone(self):
        process = self.start()
        self.ledger.add("odoo", processes.Process(process.pid, process.started - 1))
        self.assertEqual(self.ledger.stop_all(), [])
        self.assertTrue(process.is_alive())

    def test_kill_takes_the_children_too(self):
        process = self.start(PARENT)
        log = self.folder / "log"
        processes.wait_for(lambda: log.read_text().strip(), 10)
        child = int(log.read_text())
        process.kill()
        gone = processes.wait_for(lambda: processes._started(child) is None, 10)
        self.assertTrue(gone)

    def test_kill_takes_what_a_parent_starts_when_its_children_die(self):
        process = self.start([sys.executable, "-c", _RESTART])
        log = self.folder / "log"
        processes.wait_for(lambda: log.read_text().strip(), 10)
        process.kill()
        for pid in map(int, log.read_text().split()):
            self.assertIsNone(processes._started(pid))

    def test_stop_leaves_nothing_of_a_session_whose_leader_has_ended(self):
        process = self.start([sys.executable, "-c", _ORPHAN])
        process.popen.wait(10)
        self.ledger.add("odoo", processes.Process(process.pid, process.started))
        orphan = int((self.folder / "log").read_text())
        self.assertTrue(processes._started(orphan))
        self.ledger.stop_all()
        self.assertIsNone(processes._started(orphan))

    def test_what_left_its_session_is_known_by_its_mark(self):
        with patch.dict(os.environ):
            processes.mark("/outer")
            processes.mark(self.folder)
            process = self.start([
                sys.executable,
                "-c",
                _ORPHAN.replace("], )", "], start_new_session=True)"),
            ])
        process.popen.wait(10)
        orphan = int((self.folder / "log").read_text())
        self.assertEqual(processes.marked(self.folder), [orphan])
        self.assertIn(orphan, processes.marked("/outer"))
        processes.end_marked(self.folder)
        self.assertIsNone(processes._started(orphan))

    def test_a_run_ends_when_its_time_is_up(self):
        with (self.folder / "log").open("w") as file:
            self.assertEqual(processes.run(SLEEPER, file, seconds=0.2), -1)

    def test_a_free_port_is_free(self):
        self.assertTrue(processes.port_is_free(processes.free_port()))

    def test_another_program_on_the_port_is_told_apart(self):
        with socket.socket() as listener:
            listener.bind(("127.0.0.1", 0))
            listener.listen()
            port = listener.getsockname()[1]
            self.assertTrue(processes.self_process().listens_on(port))
            self.assertFalse(self.start().listens_on(port))

    def test_the_status_of_a_run_is_returned(self):
        with (self.folder / "log").open("w") as file:
            self.assertEqual(processes.run(["sh", "-c", "exit 7"], file), 7)


if __name__ == "__main__":
    unittest.main()
