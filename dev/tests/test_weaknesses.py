import ast
import unittest
from unittest.mock import patch

import context  # noqa: F401
from lib import paths, weaknesses

CANARY = {"name": "jinja2", "version": "2.4.1", "vulns": [{"id": "X-1", "aliases": ["CVE-1"]}]}


def finding(test, file):
    return {"test_id": test, "filename": file, "line_number": 7, "issue_text": "Bad."}


class TestWeaknesses(unittest.TestCase):
    def test_a_finding_without_an_answer_is_told(self):
        answers = (("B1", ("a/*",), "why"),)
        found = [finding("B1", "./a/b.py"), finding("B2", "a/b.py"), finding("B1", "c.py")]
        self.assertEqual(
            weaknesses.unanswered(found, answers), ["a/b.py:7: B2 Bad.", "c.py:7: B1 Bad."]
        )

    def test_an_answer_without_a_finding_is_told(self):
        [complaint] = weaknesses.unanswered([], (("B1", ("a/*",), "why"),))
        self.assertIn("the answer to B1 in a/*", complaint)

    def test_no_two_versions_are_asked_about_at_once(self):
        groups = weaknesses.without_twins({"a==1", "A==2", "b==1"})
        self.assertEqual(groups, [["A==2", "b==1"], ["a==1"]])

    def test_a_vulnerable_package_is_told(self):
        bad = {"name": "a", "version": "1", "vulns": [{"id": "X-2", "fix_versions": ["2"]}]}
        good = {"name": "b", "version": "1", "vulns": []}
        with patch.object(weaknesses, "say") as say:
            told = weaknesses.judge([bad, good, CANARY])
        self.assertEqual(told, "a 1: X-2; fixed in 2")
        say.assert_not_called()

    def test_what_was_accepted_is_not_told(self):
        known = {"id": "X-2", "aliases": [*weaknesses.ACCEPTED]}
        self.assertEqual(
            weaknesses.judge([{"name": "a", "version": "1", "vulns": [known]}, CANARY]), ""
        )

    def test_an_index_that_knows_nothing_is_no_failure_and_no_audit(self):
        skipped = {"name": "jinja2", "skip_reason": "not found"}
        for canary in ({**CANARY, "vulns": []}, skipped):
            with self.subTest(canary=canary), patch.object(weaknesses, "say") as say:
                self.assertEqual(weaknesses.judge([canary]), "")
                self.assertIn("NOTHING WAS AUDITED", say.call_args.args[0])

    def test_an_index_that_does_not_answer_is_no_failure(self):
        away = {
            "https_proxy": "http://127.0.0.1:9",
            "HTTPS_PROXY": "http://127.0.0.1:9",
            "NO_PROXY": "",
            "no_proxy": "",
        }
        unheard = [["not-asked-before==1"]]  # no answer to it is in a cache
        with (
            patch.dict("os.environ", away),
            patch.object(weaknesses, "without_twins", lambda _pins: unheard),
            patch.object(weaknesses, "say") as say,
        ):
            self.assertEqual(weaknesses._pip_audit(), "")
        self.assertIn("did not answer", say.call_args.args[0])

    def test_pins_that_are_none_are_a_failure(self):
        with patch.object(weaknesses, "without_twins", lambda _pins: [["jinja2=="]]):
            self.assertIn("jinja2", weaknesses._pip_audit())

    def test_statements_are_made_of_constants(self):
        """Values go to the database as parameters: a text is put together of other texts only."""
        files = sorted((paths.ROOT / "runner" / "statements").glob("*.py"))
        trees = {file.name: ast.parse(file.read_text(encoding="utf-8")) for file in files}
        constants = {
            target.id
            for tree in trees.values()
            for node in tree.body
            if isinstance(node, ast.Assign) and isinstance(node.value, ast.Constant | ast.JoinedStr)
            for target in node.targets
        }
        self.assertIn("NOW", constants)
        for name, tree in trees.items():
            for node in ast.walk(tree):
                if isinstance(node, ast.FormattedValue):
                    with self.subTest(file=name, line=node.lineno):
                        self.assertIn(ast.unparse(node.value), constants)


if __name__ == "__main__":
    unittest.main()
