import tempfile
import unittest
from pathlib import Path

from lib import inventory

SOURCE = """\
class Mixin:
    def test_shared(self): pass

class TestA(Mixin):
    def test_one(self): pass
    def helper(self): pass

class TestB(TestA):
    def test_two(self): pass
"""
SHARED = """\
class Base:
    def test_base(self): pass

class Common(Base):
    def test_common(self): pass
"""


class TestInventory(unittest.TestCase):
    def setUp(self):
        super().setUp()
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        tests = Path(folder.name) / "tests"
        tests.mkdir()
        (tests / "test_x.py").write_text(SOURCE)
        (tests / "common.py").write_text(SHARED)
        self.folder = Path(folder.name)
        self.written = inventory.written_tests("llm", Path(folder.name))

    def started(self, *names):
        return {("llm", "test_x", name) for name in names}

    def test_test_methods_of_test_files_are_written_tests(self):
        names = [f"{case}.{method}" for _module, _file, case, method in self.written]
        self.assertEqual(names, ["Mixin.test_shared", "TestA.test_one", "TestB.test_two"])

    def test_a_class_has_the_tests_of_its_mixins_of_other_files(self):
        source = "class TestC(Common):\n    def test_own(self): pass\n"
        (self.folder / "tests" / "test_y.py").write_text(source)

        names = [test[2:] for test in inventory.written_tests("llm", self.folder)]

        for method in ("test_own", "test_common", "test_base"):
            self.assertIn(("TestC", method), names)

    def test_a_mixin_runs_under_the_names_of_its_heirs(self):
        started = self.started("TestA.test_shared", "TestA.test_one", "TestB.test_two")
        self.assertEqual(inventory.not_run(self.written, started), [])

    def test_what_nobody_ran_is_found(self):
        started = self.started("TestA.test_shared", "TestA.test_one")
        self.assertEqual(
            inventory.not_run(self.written, started), [("llm", "test_x", "TestB", "test_two")]
        )

    def test_a_file_that_is_not_imported_is_found(self):
        self.assertEqual(inventory.not_run(self.written, set()), self.written)

    def test_another_class_does_not_stand_in(self):
        started = self.started("TestA.test_shared", "TestB.test_one", "TestB.test_two")
        started |= self.started("TestA.test_other")
        self.assertIn(
            ("llm", "test_x", "TestA", "test_one"), inventory.not_run(self.written, started)
        )
