import contextlib
import io
import tempfile
import time
import unittest
from pathlib import Path
from types import SimpleNamespace
from unittest.mock import patch

from lib import marks
from lib.tally import Tally

GOOD = [
    ("key", "llm_provider.api_key", 1),
    ("prompt", "llm_generation_job.generation_inputs", 5),
    ("prompt", "mail_message.body", 5),
    ("prompt", "mail_message.llm_source", 5),
]


class TestMarks(unittest.TestCase):
    def setUp(self):
        super().setUp()
        self.folder = Path(self.enterContext(tempfile.TemporaryDirectory()))
        self.enterContext(contextlib.redirect_stdout(io.StringIO()))
        self.enterContext(patch.object(marks.fault_scripts, "scripts", lambda: ["one"]))

    def failures(self, rows=GOOD, log="All is well.", **kwargs):
        """Return what a check finds of a database's rows and a log."""

        def sql(statement, _database):  # as psql answers: a line a row, columns apart by |
            found = "\n".join("|".join(map(str, row)) for row in rows)
            return "llm_provider\nmail_message" if "pg_class" in statement else found

        (self.folder / "server.log").write_text(log)
        (self.folder / "marks.log").unlink(missing_ok=True)
        cluster = SimpleNamespace(databases=lambda: ["postgres", "faults"], sql=sql)
        marks.note(SimpleNamespace(folder=self.folder, cluster=cluster))
        tally = Tally()
        marks.check(tally, [self.folder], **kwargs)
        return len(tally.failures)

    def test_a_mark_in_a_log_is_a_leak(self):
        self.assertEqual(self.failures(), 0)
        for mark in ("Bearer canary-key-fault", "{'prompt': 'job 1 canary-prompt-fault'}"):
            with self.subTest(mark):
                self.assertEqual(self.failures(log=f"one\nINFO {mark}\ntwo"), 1)

    def test_a_row_that_breaks_a_constraint_is_told_by_postgresql(self):
        line = f"{marks.BROKEN_ROW} (7, draft, {{prompt: canary-prompt-test}})"
        for name, count in (("test/postgresql.log", 0), ("fault/postgresql.log", 1)):
            path = self.folder / name
            path.parent.mkdir()
            path.write_text(f"{line}\n")
            self.assertEqual(len(marks.in_log(path)), count)

    def test_a_mark_in_another_column_is_a_leak(self):
        for row in (
            ("prompt", "llm_generation_job.error_message", 1),
            ("key", "llm_generation_job.generation_inputs", 1),
            ("prompt", "bus_bus.message", 2),
        ):
            with self.subTest(row):
                self.assertEqual(self.failures([*GOOD, row]), 1)

    def test_what_was_not_searched_or_has_no_marks_proves_nothing(self):
        self.assertEqual(self.failures(GOOD[1:]), 1)
        self.assertEqual(self.failures(since=time.time() + 60), 2)
