import tempfile
import threading
import time
import unittest
from pathlib import Path
from unittest.mock import Mock, patch

import context  # noqa: F401
from lib import fault_scripts


class TestFaultScripts(unittest.TestCase):
    def setUp(self):
        super().setUp()
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = Path(folder.name)
        self.guard, self.running, self.company = threading.Lock(), set(), {}

    def _script(self, name, text=""):
        script = self.folder / f"check_{name}.py"
        script.write_text(f'"""What it shows."""\n{text}\n')
        return script

    def _run_one(self, _lab, _tally, script, _env):
        with self.guard:
            self.running.add(script.stem)
            for name in self.running:
                self.company.setdefault(name, set()).update(self.running)
        time.sleep(0.05)
        with self.guard:
            self.running.remove(script.stem)

    def test_two_at_a_time_but_alone_what_measures_time(self):
        scripts = [self._script(name) for name in "abcd"]
        scripts += [self._script(name, "ALONE = True") for name in "xy"]
        lab = Mock(folder=self.folder)
        lab.instance.environment = {}
        with (
            patch.object(fault_scripts, "scripts", lambda: scripts),
            patch.object(fault_scripts, "_run_one", self._run_one),
            patch.object(fault_scripts.fault_table, "check"),
        ):
            fault_scripts.run(lab, Mock(), self.folder)
        self.assertEqual(set(self.company), {script.stem for script in scripts})
        for name in ("check_x", "check_y"):
            self.assertEqual(self.company[name], {name})
        self.assertGreater(max(len(names) for names in self.company.values()), 1)
        self.assertFalse(self.company["check_a"] & {"check_x", "check_y"})
