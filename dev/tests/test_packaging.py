import re
import tomllib
import unittest

import context  # noqa: F401
from lib import modules, paths, wheels

PROJECT = tomllib.loads((paths.ROOT / "pyproject.toml").read_text(encoding="utf-8"))
CHANGELOG = (paths.ROOT / "CHANGELOG.md").read_text(encoding="utf-8")


class TestPackaging(unittest.TestCase):
    def test_the_package_is_named_by_the_convention(self):
        self.assertEqual(PROJECT["project"]["name"], wheels.distribution(paths.MODULE))
        self.assertEqual(
            PROJECT["tool"]["hatch"]["build"]["targets"]["wheel"]["sources"],
            {"": f"odoo/addons/{paths.MODULE}"},
        )

    def test_the_manifest_alone_has_the_version(self):
        manifest = (paths.ROOT / "__manifest__.py").read_text(encoding="utf-8")
        version = wheels.manifest(paths.ROOT)["version"]
        self.assertEqual(PROJECT["project"]["dynamic"], ["version"])
        hatch = PROJECT["tool"]["hatch"]["version"]
        self.assertEqual(hatch["path"], "__manifest__.py")
        self.assertEqual(re.findall(hatch["pattern"], manifest), [version])
        self.assertNotIn(version, (paths.ROOT / "pyproject.toml").read_text(encoding="utf-8"))

    def test_the_package_needs_what_the_manifest_needs(self):
        needs = wheels.requirements(wheels.manifest(paths.ROOT))
        self.assertEqual(sorted(PROJECT["project"]["dependencies"]), sorted(needs))

    def test_each_module_gets_a_project(self):
        for name, folder in modules.folders().items():
            if folder != paths.ROOT:
                with self.subTest(name):
                    project = tomllib.loads(wheels._pyproject(name, folder))
                    self.assertEqual(project["project"]["name"], f"odoo-addon-{name}")
                    version = wheels.manifest(folder)["version"]
                    self.assertEqual(project["project"]["version"], version)
                    self.assertTrue((folder / "README.md").exists())

    def test_the_migrations_are_not_of_the_future(self):
        def parts(version):
            return [int(part) for part in version.split(".")]

        version = wheels.manifest(paths.ROOT)["version"]
        names = [path.name for path in (paths.ROOT / "migrations").glob("*/")]
        self.assertTrue(names)
        for name in names:
            with self.subTest(name):
                self.assertLessEqual(parts(name), parts(version))


class TestChangelog(unittest.TestCase):
    HEADS = re.findall(r"^## \[(.+?)\](?: - (\S+))?$", CHANGELOG, re.MULTILINE)

    def test_the_newest_version_is_that_of_the_manifest(self):
        versions = [version for version, _date in self.HEADS if version != "Unreleased"]
        self.assertEqual(versions[0], wheels.manifest(paths.ROOT)["version"])
        self.assertEqual(len(versions), len(set(versions)))

    def test_each_version_has_its_date(self):
        for version, date in self.HEADS:
            with self.subTest(version):
                if version == "Unreleased":
                    self.assertFalse(date)
                else:
                    self.assertRegex(date, r"^\d{4}-\d\d-\d\d$")

    def test_each_section_says_of_what_sort_it_is(self):
        sorts = {"Added", "Changed", "Deprecated", "Removed", "Fixed", "Security"}
        found = re.findall(r"^### (.+)$", CHANGELOG, re.MULTILINE)
        self.assertTrue(found)
        self.assertLessEqual({*found}, sorts)
        self.assertFalse(re.findall(r"^#{4,}", CHANGELOG, re.MULTILINE))


if __name__ == "__main__":
    unittest.main()
