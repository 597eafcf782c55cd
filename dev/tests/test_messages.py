import os
import stat
import tempfile
import unittest
from pathlib import Path
from unittest.mock import patch

import context  # noqa: F401
from lib import apt, commands, odoo_source, stack
from lib.say import HaltError


class TestMessages(unittest.TestCase):
    """What goes wrong is told in a sentence that says what to do."""

    def setUp(self):
        super().setUp()
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = Path(folder.name)
        self.enterContext(patch.dict(os.environ, XDG_CACHE_HOME=folder.name))

    def program(self, name, text):
        path = self.folder / name
        path.write_text(f"#!/bin/sh\n{text}\n")
        path.chmod(path.stat().st_mode | stat.S_IXUSR)
        return path

    def test_no_network(self):
        pip = self.program("pip", "echo 'Temporary failure in name resolution' >&2; exit 1")
        with self.assertRaisesRegex(HaltError, "no connection to the package servers"):
            commands.run([pip], "installing", name="pip")

    def test_a_full_disk(self):
        pip = self.program("pip", "echo 'OSError: No space left on device'; exit 1")
        with self.assertRaisesRegex(HaltError, "the disk is full: free some space"):
            commands.run([pip], "installing", name="pip")

    def test_any_other_failure_says_its_last_line(self):
        pip = self.program("pip", "echo before; echo 'the reason'; exit 1")
        with self.assertRaisesRegex(HaltError, "its last line is: the reason"):
            commands.run([pip], "installing", name="pip")

    def test_no_rights_to_install(self):
        self.program("apt-get", "exit 0")
        with (
            patch.dict(os.environ, PATH=str(self.folder)),
            patch("os.geteuid", return_value=1000),
            self.assertRaisesRegex(HaltError, "administrator rights.*apt-get install chromium"),
        ):
            apt.install(["chromium"], "Chromium")

    def test_no_apt(self):
        with (
            patch.dict(os.environ, PATH=str(self.folder)),
            self.assertRaisesRegex(HaltError, "has no apt-get"),
        ):
            apt.install(["chromium"], "Chromium")

    def test_a_wrong_odoo_home(self):
        with (
            patch.dict(os.environ, ODOO_HOME=str(self.folder)),
            self.assertRaisesRegex(HaltError, "there is no Odoo: set it to"),
        ):
            odoo_source.find()

    def test_an_odoo_home_of_another_series(self):
        self.program("odoo-bin", "exit 0")
        (self.folder / "odoo").mkdir()
        (self.folder / "odoo" / "release.py").write_text("series = '18.0'\n")
        with (
            patch.dict(os.environ, ODOO_HOME=str(self.folder)),
            self.assertRaisesRegex(HaltError, r"holds Odoo 18\.0"),
        ):
            odoo_source.find()

    def test_a_busy_port(self):
        demo = stack.Stack.__new__(stack.Stack)
        demo.ledger = stack.processes.Ledger(self.folder / "pids.json")
        with (
            patch.dict(os.environ, ODOO_PORT="8069"),
            patch("lib.processes.port_is_free", return_value=False),
            self.assertRaisesRegex(HaltError, "port 8069"),
        ):
            demo._port({})


if __name__ == "__main__":
    unittest.main()
