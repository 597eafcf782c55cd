"""Run the tests of the scripts: plain unittest, no database."""

import unittest

from . import paths


class _Result(unittest.TestResult):
    def __init__(self, tally):
        super().__init__()
        self.tally = tally

    def addSuccess(self, test):
        self.tally.ok()

    def addFailure(self, test, err):
        self.tally.fail(test.id(), self._exc_info_to_string(err, test))

    addError = addFailure

    def addSubTest(self, test, subtest, err):
        if err:
            self.tally.fail(subtest.id(), self._exc_info_to_string(err, test))

    def addSkip(self, test, reason):
        self.tally.fail(f"{test.id()} was skipped", reason)


def run(tally):
    folder = str(paths.DEV / "tests")
    unittest.TestLoader().discover(folder, top_level_dir=folder).run(_Result(tally))
