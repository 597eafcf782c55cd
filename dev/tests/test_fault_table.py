import contextlib
import io
import os
import tempfile
import unittest
from dataclasses import replace
from pathlib import Path
from unittest.mock import patch

import context  # noqa: F401
from lib import fault_table
from lib.tally import Tally

GOOD = fault_table.Row(
    script="check_kill", fault="a server killed", jobs=20, lost=0, duplicated=2, unexplained=0,
    stuck=0, recovered=12.34, why="2 worker_died",
)  # fmt: skip


class TestFaultTable(unittest.TestCase):
    def setUp(self):
        super().setUp()
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.path = Path(folder.name) / "table.log"

    def hand_over(self, *rows):
        with (
            patch.dict(os.environ, {fault_table.VARIABLE: str(self.path)}),
            contextlib.redirect_stdout(io.StringIO()),
        ):
            for row in rows:
                fault_table.hand_over(row)
        return fault_table.read(self.path)

    def failures(self, rows, scripts=("check_kill",)):
        tally = Tally()
        with contextlib.redirect_stdout(io.StringIO()):
            fault_table.check(tally, rows, scripts)
        return tally.failures

    def test_rows_are_read_as_they_were_handed_over(self):
        other = replace(GOOD, fault="a worker killed")
        self.assertEqual(self.hand_over(GOOD, other), [GOOD, other])

    def test_no_file_has_no_rows(self):
        self.assertEqual(fault_table.read(self.path), [])

    def test_without_a_table_a_row_is_only_said(self):
        said = io.StringIO()
        with patch.dict(os.environ), contextlib.redirect_stdout(said):
            os.environ.pop(fault_table.VARIABLE, None)
            fault_table.hand_over(GOOD)
        self.assertIn("a server killed: jobs 20, lost 0, duplicated 2, stuck 0", said.getvalue())

    def test_the_table_has_each_row_under_its_heads(self):
        heads, _rule, row = fault_table.render([GOOD]).splitlines()
        self.assertEqual(row.split("  ")[0], "a server killed")
        self.assertEqual(row.index("12.3 s") + len("12.3 s"), heads.index("recovered") + 9)
        self.assertTrue(row.endswith("2 worker_died"))

    def test_good_rows_pass(self):
        self.assertEqual(self.failures([GOOD]), [])

    def test_what_is_lost_stuck_or_unexplained_fails(self):
        for name in ("lost", "stuck", "unexplained"):
            with self.subTest(name):
                self.assertEqual(len(self.failures([replace(GOOD, **{name: 1})])), 1)

    def test_a_fault_without_jobs_shows_nothing(self):
        self.assertEqual(len(self.failures([replace(GOOD, jobs=0)])), 1)

    def test_a_script_without_a_row_fails(self):
        failures = self.failures([GOOD], scripts=("check_kill", "check_limits"))
        self.assertEqual(failures, ["each fault script has its row"])
