import os
import signal
import socket
import sys
import tempfile
import unittest
from pathlib import Path
from unittest.mock import patch

from lib import paths, processes

SLEEP = "import time; time.sleep(60)"
#: Each starts a child and tells its pid: and waits, and starts another one whenever one dies, as a
#: server does with its workers, and ends, the child in a session of its own.
_CHILD = f"import subprocess, sys\nstart = [sys.executable, '-c', {SLEEP!r}]\n"
_RESTART = """\
while True:
    child = subprocess.Popen(start)
    print(child.pid, flush=True)
    child.wait()
"""
_ORPHAN = "print(subprocess.Popen(start).pid, flush=True)"
#: Runs programs in threads, and is not done with them for a minute.
_TOGETHER = f"""\
import sys
sys.path.insert(0, {str(paths.DEV)!r})
from lib import processes
from lib.say import run_main

def run(number):
    print(f"{{number}}\\n", end="", flush=True)  # two threads: the line in one write
    processes.run(["sleep", "60"], sys.stdout)

run_main(lambda: processes.run_together(run, range(4), 2))
"""
_LISTEN = f"""\
import socket
listener = socket.create_server(("127.0.0.1", 0))
print(listener.getsockname()[1], flush=True)
{SLEEP}
"""
_FLED = "print(subprocess.Popen(start, start_new_session=True).pid, flush=True)"


class TestProcesses(unittest.TestCase):
    def setUp(self):
        super().setUp()
        self.folder = Path(self.enterContext(tempfile.TemporaryDirectory()))
        self.log = self.folder / "log"

    def start(self, code=SLEEP):
        process = processes.start([sys.executable, "-c", code], self.log)
        self.addCleanup(process.kill)
        return process

    def children(self):
        processes.wait_for(lambda: self.log.read_text().endswith("\n"), 20)
        return [int(pid) for pid in self.log.read_text().split()]

    def test_kill_takes_what_a_parent_starts_when_its_children_die(self):
        process = self.start(_CHILD + _RESTART)
        self.assertTrue(self.children())
        process.kill()
        for pid in self.children():
            self.assertIsNone(processes._started(pid))

    def test_stop_leaves_nothing_of_a_session_whose_leader_has_ended(self):
        process = self.start(_CHILD + _ORPHAN)
        process.popen.wait(20)
        [orphan] = self.children()
        self.assertTrue(processes._started(orphan))
        process.stop()
        self.assertIsNone(processes._started(orphan))

    def test_what_left_its_session_is_known_by_its_mark(self):
        with patch.dict(os.environ):
            processes.mark("/outer")
            processes.mark(self.folder)
            process = self.start(_CHILD + _FLED)
        process.popen.wait(20)
        [orphan] = self.children()
        self.assertEqual(processes.marked(self.folder), [orphan])
        self.assertIn(orphan, processes.marked("/outer"))
        self.assertEqual(processes.stop_marked(self.folder), 1)
        self.assertIsNone(processes._started(orphan))
        self.assertEqual(processes.stop_marked(self.folder), 0)

    def test_a_run_tells_its_status_and_ends_when_its_time_is_up(self):
        with self.log.open("w") as file:
            self.assertEqual(processes.run(["sh", "-c", "exit 7"], file), 7)
            self.assertEqual(processes.run(["sleep", "60"], file, seconds=0.2), -1)

    def test_who_is_stopped_does_not_wait_for_what_its_threads_run(self):
        process = self.start(_TOGETHER)
        processes.wait_for(lambda: len(self.log.read_text().split()) == 2, 20)
        process.send(signal.SIGTERM)
        self.assertEqual(process.popen.wait(20), 128 + signal.SIGTERM)
        self.assertEqual(sorted(self.log.read_text().split()), ["0", "1"])

    def test_another_program_on_the_port_is_told_apart(self):
        with socket.create_server(("127.0.0.1", 0)) as ours:
            port = ours.getsockname()[1]
            self.assertFalse(self.start().listens_on(port))
        process = self.start(_LISTEN)
        [port] = self.children()
        self.assertTrue(process.listens_on(port))
