import re
import unittest

import context  # noqa: F401
from lib import paths

PAGE = (paths.ROOT / "README.md").read_text(encoding="utf-8")
MAKEFILE = (paths.ROOT / "Makefile").read_text(encoding="utf-8")


def rows(head):
    """Return the cells of the table whose head begins so."""
    lines = PAGE[PAGE.index(f"| {head}") :].split("\n\n")[0].splitlines()[2:]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]


def code(text):
    return re.findall(r"`([^`]+)`", text)


class TestReadme(unittest.TestCase):
    """What the page names of the repository, which a wheel has not; see tests/test_readme.py."""

    def test_the_files_are_there(self):
        names = [name for _what, where in rows("look for") for name in code(where)]
        self.assertTrue(names)
        for name in names:
            with self.subTest(name=name):
                self.assertTrue((paths.ROOT / name).exists())

    def test_the_commands_are_there(self):
        targets = set(re.findall(r"^(\w+):", MAKEFILE, re.MULTILINE))
        commands = set(re.findall(r"(?:`|^)make (\w+)", PAGE, re.MULTILINE))
        self.assertTrue(commands)
        self.assertFalse(commands - targets)

    def test_the_variables_are_there(self):
        scripts = [path.read_text(encoding="utf-8") for path in paths.DEV.rglob("*.py")]
        sources = "\n".join([*scripts, MAKEFILE])
        names = [name for names, _what in rows("variable") for name in code(names)]
        self.assertTrue(names)
        for name in names:
            with self.subTest(name=name):
                self.assertRegex(sources, rf"\b{name}\b")


if __name__ == "__main__":
    unittest.main()
