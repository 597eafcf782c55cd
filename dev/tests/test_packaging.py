import re
import tomllib
import unittest

from lib import modules, paths, wheels

PROJECT = tomllib.loads((paths.ROOT / "pyproject.toml").read_text(encoding="utf-8"))
CHANGELOG = (paths.ROOT / "docs" / "CHANGELOG.md").read_text(encoding="utf-8")
VERSION = modules.manifest(paths.ROOT)["version"]


class TestPackaging(unittest.TestCase):
    def test_the_manifest_alone_has_the_version_and_what_is_needed(self):
        needs = wheels.requirements(modules.manifest(paths.ROOT))
        self.assertEqual(sorted(PROJECT["project"]["dependencies"]), sorted(needs))
        self.assertNotIn(VERSION, (paths.ROOT / "pyproject.toml").read_text(encoding="utf-8"))

    def test_each_module_gets_a_project(self):
        for name, folder in modules.folders().items():
            if folder != paths.ROOT:
                with self.subTest(name):
                    project = tomllib.loads(wheels.pyproject(name, folder))["project"]
                    version = modules.manifest(folder)["version"]
                    self.assertEqual(project["name"], f"odoo-addon-{name}")
                    self.assertEqual(project["version"], version)
                    self.assertTrue((folder / "README.md").exists())

    def test_the_migrations_are_not_of_the_future(self):
        def parts(version):
            return [int(part) for part in version.split(".")]

        for folder in (paths.ROOT / "migrations").glob("*/"):
            self.assertLessEqual(parts(folder.name), parts(VERSION))

    def test_the_changelog_ends_with_the_version_of_the_manifest(self):
        heads = re.findall(r"^## \[(.+?)\](?: - (\S+))?$", CHANGELOG, re.MULTILINE)
        dates = {version: date for version, date in heads if version != "Unreleased"}
        self.assertEqual(next(iter(dates)), VERSION)
        for date in dates.values():
            self.assertRegex(date, r"^\d{4}-\d\d-\d\d$")
        sorts = {"Added", "Changed", "Deprecated", "Removed", "Fixed", "Security"}
        self.assertLessEqual({*re.findall(r"^### (.+)$", CHANGELOG, re.MULTILINE)}, sorts)
