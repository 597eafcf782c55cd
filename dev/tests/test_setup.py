import contextlib
import io
import os
import tempfile
import unittest
from collections import namedtuple
from pathlib import Path
from unittest.mock import patch

from lib import commands, odoo_source, postgres, stack, steps
from lib.say import HaltError, halt

Usage = namedtuple("Usage", "free")


class SetupCase(unittest.TestCase):
    def setUp(self):
        super().setUp()
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = Path(folder.name)
        self.enterContext(patch.dict(os.environ, XDG_CACHE_HOME=folder.name))
        self.enterContext(contextlib.redirect_stdout(io.StringIO()))


class TestSteps(SetupCase):
    def setUp(self):
        super().setUp()
        self.built = []

    def step(self, name, pins=("1",), build=None, after=()):
        def note(folder):
            self.built.append(name)
            (folder / "file").write_text("whole")

        return steps.Step(name, name, pins, build or note, after)

    def test_a_step_is_done_once_and_again_when_its_pins_change(self):
        for pins in ("1", "1", "2"):
            steps.run_steps([self.step("one", [pins])])
        self.assertEqual(self.built, ["one", "one"])

    def test_a_step_that_breaks_off_leaves_nothing_and_is_done_again(self):
        def break_off(folder):
            (folder / "file").write_text("half")
            halt("no network")

        two = self.step("two", after=["one"])
        with self.assertRaisesRegex(HaltError, "no network"):
            steps.run_steps([self.step("one", build=break_off), two])
        self.assertEqual(self.built, [])  # nothing is begun after a failure
        one = self.step("one")
        self.assertFalse(one.folder.exists())
        steps.run_steps([one])
        self.assertEqual((one.folder / "file").read_text(), "whole")
        self.assertEqual(list(Path(one.folder.parent).glob(".one.*")), [])

    def test_a_disk_that_is_nearly_full_is_told_before_anything_is_done(self):
        with (
            patch("shutil.disk_usage", return_value=Usage(free=2**30)),
            self.assertRaisesRegex(HaltError, r"only 1\.0 GB are free .* XDG_CACHE_HOME"),
        ):
            steps.run_steps([self.step("one")])
        self.assertEqual(self.built, [])


class TestSetup(SetupCase):
    def test_a_reason_is_told(self):
        for output, reason in (
            ("Temporary failure in name resolution", "no connection to the package servers"),
            ("OSError: No space left on device", "the disk is full: free some space"),
            ("before; echo the reason", "its last line is: the reason"),
        ):
            with self.subTest(reason), self.assertRaisesRegex(HaltError, reason):
                command = ["sh", "-c", f"echo {output}; exit 1"]
                commands.run(command, "installing", name="pip")

    def test_a_wrong_odoo_home_is_told(self):
        with patch.dict(os.environ, ODOO_HOME=str(self.folder)):
            with self.assertRaisesRegex(HaltError, "there is no Odoo: set it to"):
                odoo_source.find()
            (self.folder / "odoo-bin").touch()
            (self.folder / "odoo").mkdir()
            (self.folder / "odoo" / "release.py").write_text("series = '18.0'\n")
            with self.assertRaisesRegex(HaltError, r"holds Odoo 18\.0"):
                odoo_source.find()

    def test_a_busy_port_is_told(self):
        with (
            patch.dict(os.environ, ODOO_PORT="8069"),
            patch("lib.processes.port_is_free", return_value=False),
            self.assertRaisesRegex(HaltError, "port 8069"),
        ):
            stack._port()

    def test_data_that_outlived_its_cache_is_no_cluster(self):
        with patch.object(postgres, "_SHORT", self.folder / "short"):
            (self.folder / "short").mkdir()
            cluster = postgres.Cluster(self.folder / ("long" * 20) / "cluster")
            cluster.prepare()
            cluster.data.mkdir()
            (cluster.data / "PG_VERSION").touch()
            self.assertTrue(cluster.exists())
            postgres.sweep()
            self.assertTrue(cluster.exists())
            cluster.folder.rmdir()
            self.assertFalse(cluster.exists())
            postgres.sweep()
            self.assertFalse(cluster.home.exists())
