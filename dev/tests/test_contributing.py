import json
import re
import unittest

import context  # noqa: F401
from lib import environments, inventory, modules, paths

PAGE = (paths.ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
HOOKS = (paths.DEV / "pre-commit.yaml").read_text(encoding="utf-8")


class TestContributing(unittest.TestCase):
    def test_the_files_are_there(self):
        names = re.findall(r"`([\w/]+(?:\.py|/))`", PAGE) + re.findall(r"\]\((\S+)\)", PAGE)
        of_a_provider = {"models/llm_provider.py"}
        self.assertGreater(len(names), 8)
        for name in set(names) - of_a_provider:
            with self.subTest(name):
                self.assertTrue((paths.ROOT / name).exists())
        for name in of_a_provider:
            self.assertTrue((paths.DEV / "provider" / name).exists())

    def test_the_commands_are_there(self):
        makefile = (paths.ROOT / "Makefile").read_text(encoding="utf-8")
        targets = re.findall(r"(?:`|^)make (\w+)", PAGE, re.MULTILINE)
        self.assertIn("provider", targets)
        for target in targets:
            self.assertIn(f"\n{target}:", makefile)

    def test_the_tests_and_tours_are_there(self):
        written = {
            name
            for module, folder in modules.folders().items()
            for _module, _file, case, method in inventory.written_tests(module, folder)
            for name in (f"{case}.{method}", case)
        }
        named = re.findall(r"/llm_generate_job:(\w+(?:\.\w+)?)", PAGE)
        self.assertTrue(named)
        for name in named:
            self.assertIn(name.removesuffix(".test_name"), written)
        tours = "".join(path.read_text() for path in paths.ROOT.glob("static/tests/tours/*.js"))
        for tour in re.findall(r"startTour\(\"(\w+)\"", PAGE):
            self.assertIn(f'"{tour}"', tours)

    def test_the_sections_of_the_readme_are_there(self):
        readme = (paths.ROOT / "README.md").read_text(encoding="utf-8")
        for section in ("Where things are", "How to write a provider"):
            self.assertIn(f"*{section}*", PAGE.replace("\n", " ").replace("  ", " "))
            self.assertIn(f"\n## {section}\n", readme)

    def test_pre_commit_has_the_versions_of_make_lint(self):
        python = environments.requirements("lint").read_text(encoding="utf-8").splitlines()
        package = json.loads((paths.DEV / "package.json").read_text(encoding="utf-8"))
        node = [f"{name}@{version}" for name, version in package["devDependencies"].items()]
        hooks = re.findall(r"additional_dependencies: \[(.*)\]", HOOKS)
        pins = {pin.strip(' "') for hook in hooks for pin in hook.split(",")}
        self.assertGreater(len(pins), 5)
        self.assertLessEqual(pins, {*python, *node})
        self.assertLessEqual(set(node), pins)


if __name__ == "__main__":
    unittest.main()
