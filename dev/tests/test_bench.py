import contextlib
import io
import sys
import tempfile
import unittest
from pathlib import Path
from types import SimpleNamespace

from lib import paths

sys.path.insert(0, str(paths.DEV / "benchmarks"))

import report


class TestBench(unittest.TestCase):
    def setUp(self):
        super().setUp()
        self.enterContext(contextlib.redirect_stdout(io.StringIO()))

    def test_a_family_that_breaks_off_takes_no_figure_along(self):
        def measure(family):
            if family.NAMES == ("b",):
                raise RuntimeError
            return [report.row(family.NAMES[0], 1.0)]

        kept = []
        some = [SimpleNamespace(NAMES=(name,)) for name in "abc"]
        table, broken = report.measure_all(some, measure, lambda rows: kept.append(len(rows)))
        self.assertEqual([row.name for row in table], ["a", "c"])
        self.assertEqual(broken, ["b"])
        self.assertEqual(kept, [1, 1, 2])

    def test_a_bar_is_missed(self):
        self.assertTrue(report.row("a", [1, 2, 9], at_most=2).ok)
        self.assertFalse(report.row("a", [1, 3, 9], at_most=2).ok)
        self.assertFalse(report.row("a", 4.0, 1.0, better="higher", times=5).ok)
        self.assertFalse(report.row("a", 1.0, 1.0, beats=True).ok)

    def test_rows_are_kept(self):
        path = Path(self.enterContext(tempfile.TemporaryDirectory())) / "rows.json"
        report.save([report.row("a", 1.0)], path)
        self.assertIn('"name": "a"', path.read_text())
