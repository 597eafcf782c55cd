import re
import unittest

import context  # noqa: F401
from lib import fault_scripts, inventory, modules, paths

PAGE = (paths.ROOT / "SECURITY.md").read_text(encoding="utf-8")


def rows():
    """Return the cells of each row of the tables of threats."""
    lines = re.findall(r"^\| (.*) \|$", PAGE.partition("## Threats")[2], re.MULTILINE)
    cells = [line.split(" | ") for line in lines]
    return [row for row in cells if row[0] != "what could happen" and set(row[0]) != {"-"}]


class TestSecurityPage(unittest.TestCase):
    def test_each_threat_has_a_guard_and_a_test(self):
        self.assertGreater(len(rows()), 25)
        for row in rows():
            with self.subTest(row[0]):
                self.assertEqual(len(row), 3)
                self.assertRegex(row[2], r"^`[^`]+`(, `[^`]+`)*$")

    def test_the_tests_are_there(self):
        written = {path.stem for path in fault_scripts.scripts()}
        for module, folder in modules.folders().items():
            prefix = "" if module == paths.MODULE else f"{module}:"
            written |= {
                f"{prefix}{case}.{method}"
                for _module, _file, case, method in inventory.written_tests(module, folder)
            }
        named = {name for row in rows() for name in re.findall(r"`([^`]+)`", row[2])}
        self.assertEqual(named - written, set())

    def test_the_files_and_commands_are_there(self):
        for name in re.findall(r"`([\w/]+(?:\.py|/))`", PAGE):
            with self.subTest(name):
                self.assertTrue((paths.ROOT / name).exists())
        makefile = (paths.ROOT / "Makefile").read_text(encoding="utf-8")
        for target in re.findall(r"`make (\w+)`", PAGE):
            self.assertIn(f"\n{target}:", makefile)


if __name__ == "__main__":
    unittest.main()
