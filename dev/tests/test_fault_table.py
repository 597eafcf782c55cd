import contextlib
import io
import os
import tempfile
import unittest
from dataclasses import replace
from pathlib import Path
from unittest.mock import patch

from lib import fault_table
from lib.tally import Tally

GOOD = fault_table.Row(
    script="check_kill", fault="a server killed", jobs=20, lost=0, duplicated=2, unexplained=0,
    stuck=0, recovered=12.34, why="2 worker_died",
)  # fmt: skip


class TestFaultTable(unittest.TestCase):
    def setUp(self):
        super().setUp()
        self.enterContext(contextlib.redirect_stdout(io.StringIO()))

    def failures(self, rows, scripts=("check_kill",)):
        tally = Tally()
        fault_table.check(tally, rows, scripts)
        return tally.failures

    def test_rows_are_read_as_they_were_handed_over(self):
        other = replace(GOOD, fault="a worker killed")
        path = Path(self.enterContext(tempfile.TemporaryDirectory())) / "table.log"
        self.assertEqual(fault_table.read(path), [])
        with patch.dict(os.environ, {fault_table.VARIABLE: str(path)}):
            for row in (GOOD, other):
                fault_table.hand_over(row)
        self.assertEqual(fault_table.read(path), [GOOD, other])

    def test_what_is_lost_stuck_or_unexplained_fails(self):
        self.assertEqual(self.failures([GOOD]), [])
        for values in ({"lost": 1}, {"stuck": 1}, {"unexplained": 1}, {"jobs": 0}):
            with self.subTest(values):
                self.assertEqual(len(self.failures([replace(GOOD, **values)])), 1)

    def test_a_script_without_a_row_fails(self):
        failures = self.failures([GOOD], scripts=("check_kill", "check_limits"))
        self.assertEqual(failures, ["each fault script has its row"])
