import ast
import unittest
from unittest.mock import patch

from lib import linters, paths, weaknesses

CANARY = {"name": "jinja2", "version": "2.4.1", "vulns": [{"id": "X-1", "aliases": ["CVE-1"]}]}


class TestWeaknesses(unittest.TestCase):
    def judge(self, *dependencies):
        with patch.object(weaknesses, "say") as self.say:
            return weaknesses.judge([*dependencies])

    def test_a_vulnerable_package_is_told(self):
        bad = {"name": "a", "version": "1", "vulns": [{"id": "X-2", "fix_versions": ["2"]}]}
        good = {"name": "b", "version": "1", "vulns": []}
        self.assertEqual(self.judge(bad, good, CANARY), "a 1: X-2; fixed in 2")
        self.say.assert_not_called()

    def test_what_was_accepted_is_not_told(self):
        known = {"id": "X-2", "aliases": [*weaknesses.ACCEPTED]}
        self.assertEqual(self.judge({"name": "a", "version": "1", "vulns": [known]}, CANARY), "")

    def test_an_index_that_knows_nothing_is_no_failure_and_no_audit(self):
        for canary in ({**CANARY, "vulns": []}, {"name": "jinja2", "skip_reason": "not found"}):
            with self.subTest(canary=canary):
                self.assertEqual(self.judge(canary), "")
                self.assertIn("NOTHING WAS AUDITED", self.say.call_args.args[0])

    def test_statements_are_made_of_constants(self):
        """Values go to the database as parameters: a text is put together of other texts only."""
        files = linters.tracked("engine/sql.py", "/statements.py")
        trees = {name: ast.parse((paths.ROOT / name).read_text("utf-8")) for name in files}
        constants = {
            target.id
            for tree in trees.values()
            for node in tree.body
            if isinstance(node, ast.Assign) and isinstance(node.value, ast.Constant | ast.JoinedStr)
            for target in node.targets
        }
        # Those of the addon's tables of constants are written there, once.
        constants |= {
            alias.name
            for tree in trees.values()
            for node in tree.body
            if isinstance(node, ast.ImportFrom)
            and (node.module or "").endswith(("const", "tokens"))
            for alias in node.names
        }
        self.assertIn("NOW", constants)
        for name, tree in trees.items():
            for node in ast.walk(tree):
                if isinstance(node, ast.FormattedValue):
                    with self.subTest(file=name, line=node.lineno):
                        parts = [*ast.walk(node.value)]
                        names = {part.id for part in parts if isinstance(part, ast.Name)}
                        self.assertLessEqual(names - {"list"}, constants)
                        for part in parts:
                            if isinstance(part, ast.Call):
                                given = {type(argument) for argument in part.args}
                                self.assertLessEqual(given, {ast.Constant, ast.Name})
