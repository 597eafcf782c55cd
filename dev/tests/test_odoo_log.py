import unittest

from lib import odoo_log

HEAD = "2026-01-02 03:04:05,678 12 {} db {}: {}"


def log(*records):
    return "\n".join(HEAD.format(*record) for record in records)


def started(name="TestA.test_b"):
    return "INFO", "odoo.addons.llm.tests.test_a", f"Starting {name} ..."


class TestOdooLog(unittest.TestCase):
    def test_a_test_that_started_and_did_not_fail_has_passed(self):
        report = odoo_log.read(log(started()))
        self.assertEqual(report.passed, {("llm", "test_a", "TestA.test_b")})

    def test_a_failure_keeps_its_traceback_and_is_no_pass(self):
        failure = ("ERROR", "odoo.addons.llm.tests.test_a", "FAIL: TestA.test_b\nTraceback\nBoom")
        report = odoo_log.read(log(started(), failure))
        self.assertFalse(report.passed)
        self.assertIn("Boom", report.failed["llm", "test_a", "TestA.test_b"])

    def test_a_failed_subtest_fails_its_test(self):
        text = "FAIL: Subtest TestA.test_b (case=1)\nBoom"
        report = odoo_log.read(log(started(), ("ERROR", "odoo.addons.llm.tests.test_a", text)))
        self.assertFalse(report.passed)

    def test_a_skipped_test_is_no_pass(self):
        skipped = ("INFO", "odoo.addons.llm.tests.test_a", "skipped TestA.test_b : no browser")
        report = odoo_log.read(log(started(), skipped))
        self.assertFalse(report.passed)
        self.assertIn("no browser", report.skipped["llm", "test_a", "TestA.test_b"])

    def test_a_logged_error_is_a_problem(self):
        for level in ("ERROR", "CRITICAL"):
            with self.subTest(level=level):
                report = odoo_log.read(log((level, "odoo.sql_db", "bad query: SELECT")))
                self.assertEqual([one.logger for one in report.problems], ["odoo.sql_db"])

    def test_the_summary_of_failures_is_no_second_problem(self):
        failure = ("ERROR", "odoo.addons.llm.tests.test_a", "FAIL: TestA.test_b")
        summary = ("ERROR", "odoo.tests.result", "1 failed, 0 error(s) of 9 tests when loading")
        self.assertFalse(odoo_log.read(log(started(), failure, summary)).problems)
        self.assertTrue(odoo_log.read(log(started(), summary)).problems)

    def test_what_the_browser_of_a_failed_test_says_is_no_second_problem(self):
        failure = ("ERROR", "odoo.addons.llm.tests.test_a", "FAIL: TestA.test_b")
        browser = ("ERROR", "odoo.addons.llm.tests.test_a.TestA.test_b.browser", "step not found")
        self.assertFalse(odoo_log.read(log(started(), failure, browser)).problems)
        self.assertTrue(odoo_log.read(log(started(), browser)).problems)

    def test_only_warnings_about_us_are_problems(self):
        cases = (
            ("odoo.addons.llm.models.x", "careful", True),
            ("odoo.addons.mail.models.x", "careful", False),
            ("odoo.fields", "Field llm.provider.name: string is redundant", True),
            ("py.warnings", "/somewhere/llm/models/x.py:1: DeprecationWarning", True),
            ("odoo.service.server", "Running as user 'root' is a security risk.", False),
        )
        for logger, text, expected in cases:
            with self.subTest(logger=logger):
                report = odoo_log.read(log(("WARNING", logger, text)), ["llm"])
                self.assertEqual(bool(report.problems), expected)

    def test_the_path_of_the_cache_is_not_about_us(self):
        text = f"{odoo_log.paths.cache()}/venv-odoo/x.py:1: DeprecationWarning"
        report = odoo_log.read(log(("WARNING", "py.warnings", text)), ["llm_generate_job"])
        self.assertFalse(report.problems)
