import contextlib
import io
import os
import tempfile
import unittest
from collections import namedtuple
from pathlib import Path
from unittest.mock import patch

import context  # noqa: F401
from lib import steps
from lib.say import HaltError, halt

Usage = namedtuple("Usage", "free")


class TestSteps(unittest.TestCase):
    def setUp(self):
        super().setUp()
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.enterContext(patch.dict(os.environ, XDG_CACHE_HOME=folder.name))
        self.enterContext(contextlib.redirect_stdout(io.StringIO()))
        self.built = []

    def step(self, name, pins=("1",), build=None, after=()):
        def note(folder):
            self.built.append(name)
            (folder / "file").write_text("whole")

        return steps.Step(name, name, pins, build or note, after)

    def test_a_step_is_done_once(self):
        for _time in range(2):
            steps.run_steps([self.step("one")])
        self.assertEqual(self.built, ["one"])

    def test_a_step_is_done_again_when_its_pins_change(self):
        steps.run_steps([self.step("one", ["1"])])
        steps.run_steps([self.step("one", ["2"])])
        self.assertEqual(self.built, ["one", "one"])

    def test_a_step_waits_for_what_it_needs(self):
        steps.run_steps([self.step("two", after=["one"]), self.step("one")])
        self.assertEqual(self.built, ["one", "two"])

    def test_a_step_that_breaks_off_leaves_nothing_and_is_done_again(self):
        def break_off(folder):
            (folder / "file").write_text("half")
            halt("no network")

        with self.assertRaisesRegex(HaltError, "no network"):
            steps.run_steps([self.step("one", build=break_off)])
        one = self.step("one")
        self.assertFalse(one.folder.exists())
        steps.run_steps([one])
        self.assertEqual((one.folder / "file").read_text(), "whole")
        self.assertEqual(list(Path(one.folder.parent).glob(".one.*")), [])

    def test_nothing_is_begun_after_a_failure(self):
        def fail(_folder):
            halt("no network")

        with self.assertRaises(HaltError):
            steps.run_steps([self.step("one", build=fail), self.step("two", after=["one"])])
        self.assertEqual(self.built, [])

    def test_a_disk_that_is_nearly_full_is_told_before_anything_is_done(self):
        with (
            patch("shutil.disk_usage", return_value=Usage(free=2**30)),
            self.assertRaisesRegex(HaltError, r"only 1\.0 GB are free .* XDG_CACHE_HOME"),
        ):
            steps.run_steps([self.step("one")])
        self.assertEqual(self.built, [])


if __name__ == "__main__":
    unittest.main()
