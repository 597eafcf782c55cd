"""What the pages name is there: files, commands, tests, links, versions."""

import json
import re
import unittest

from lib import environments, fault_scripts, inventory, modules, paths

MAKEFILE = (paths.ROOT / "Makefile").read_text(encoding="utf-8")
ARCHITECTURE, CONTRIBUTING, SECURITY, TOOLS = (
    (paths.ROOT / name).read_text(encoding="utf-8")
    for name in (
        "docs/architecture.md",
        "docs/CONTRIBUTING.md",
        "docs/SECURITY.md",
        "dev/README.md",
    )
)
PAGES = [
    paths.ROOT / "README.md",
    *sorted((paths.ROOT / "docs").glob("*.md")),
    *sorted(paths.DEV.glob("**/README.md")),
]


def cells(page, head):
    """Return the cells of the table whose head begins so."""
    lines = page[page.index(f"| {head}") :].split("\n\n")[0].splitlines()[2:]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]


def code(text):
    return re.findall(r"`([^`]+)`", text)


def written_tests():
    """Return "Class.method" of each test, and "module:Class.method" of those of addons/."""
    return {
        (f"{case}.{method}" if module == paths.MODULE else f"{module}:{case}.{method}")
        for module, folder in modules.folders().items()
        for _module, _file, case, method in inventory.written_tests(module, folder)
    }


class TestPages(unittest.TestCase):
    def test_what_is_linked_to_is_there(self):
        for page in PAGES:
            for link in re.findall(r"\]\(([^)#]+)(?:#[^)]*)?\)", page.read_text(encoding="utf-8")):
                with self.subTest(page=page.name, link=link):
                    self.assertTrue(link.startswith("http") or (page.parent / link).exists())

    def test_the_commands_are_there(self):
        targets = set(re.findall(r"^(\w+):", MAKEFILE, re.MULTILINE))
        for page in PAGES:
            if page.name == "CHANGELOG.md":  # has those of older versions, too
                continue
            text = page.read_text(encoding="utf-8")
            named = set(re.findall(r"(?:`|^)make (\w+)", text, re.MULTILINE))
            self.assertEqual(named - targets, set(), page.name)

    def test_the_files_are_there(self):
        names = set(re.findall(r"`([\w/]+(?:\.py|/))`", CONTRIBUTING + SECURITY))
        names |= {name for _what, where in cells(ARCHITECTURE, "look for") for name in code(where)}
        for name in names - {"models/llm_provider.py"}:
            with self.subTest(name):
                self.assertTrue((paths.ROOT / name).exists())

    def test_the_variables_are_there(self):
        scripts = [path.read_text(encoding="utf-8") for path in paths.DEV.rglob("*.py")]
        for names, _what in cells(TOOLS, "variable"):
            for name in code(names):
                self.assertRegex("\n".join([*scripts, MAKEFILE]), rf"\b{name}\b")

    def test_the_tests_and_tours_of_contributing_are_there(self):
        written = written_tests()
        written |= {name.partition(".")[0] for name in written}
        for name in re.findall(r"/llm_generate_job:(\w+(?:\.\w+)?)", CONTRIBUTING):
            self.assertIn(name.removesuffix(".test_name"), written)
        tours = "".join(path.read_text() for path in paths.ROOT.glob("static/tests/tours/*.js"))
        for tour in re.findall(r"startTour\(\"(\w+)\"", CONTRIBUTING):
            self.assertIn(f'"{tour}"', tours)

    def test_each_feature_is_there_and_has_a_test(self):
        page = (paths.ROOT / "docs" / "features.md").read_text(encoding="utf-8")
        written = written_tests() | {path.stem for path in fault_scripts.scripts()}
        for what, where, tests in cells(page, "asked for"):
            with self.subTest(what):
                for name in code(where):
                    self.assertTrue((paths.ROOT / name).exists(), name)
                self.assertTrue(code(tests))
                self.assertEqual(set(code(tests)) - written, set())

    def test_each_threat_has_a_guard_and_a_test_that_is_there(self):
        lines = re.findall(r"^\| (.*) \|$", SECURITY.partition("## Threats")[2], re.MULTILINE)
        rows = [line.split(" | ") for line in lines]
        rows = [row for row in rows if row[0] != "what could happen" and set(row[0]) != {"-"}]
        self.assertGreater(len(rows), 25)
        written = written_tests() | {path.stem for path in fault_scripts.scripts()}
        for row in rows:
            with self.subTest(row[0]):
                self.assertEqual(len(row), 3)
                self.assertRegex(row[2], r"^`[^`]+`(, `[^`]+`)*$")
                self.assertEqual({*code(row[2])} - written, set())

    def test_pre_commit_has_the_versions_of_make_lint(self):
        python = environments.requirements("lint").read_text(encoding="utf-8").splitlines()
        package = json.loads((paths.DEV / "package.json").read_text(encoding="utf-8"))
        node = [f"{name}@{version}" for name, version in package["devDependencies"].items()]
        hooks = (paths.DEV / "pre-commit.yaml").read_text(encoding="utf-8")
        lists = re.findall(r"additional_dependencies: \[(.*)\]", hooks)
        pins = {pin.strip(' "') for one in lists for pin in one.split(",")}
        self.assertLessEqual(pins, {*python, *node})
        self.assertLessEqual(set(node), pins)
