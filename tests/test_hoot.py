import re
from functools import reduce
from pathlib import Path

from odoo.tests import HttpCase, no_retry, tagged
from odoo.tools.misc import file_path

SUITE = "@llm_generate_job"


@tagged("post_install", "-at_install")
class TestHoot(HttpCase):
    """Run the unit tests of our components, `static/tests/**/*.test.js`, in a browser."""

    @no_retry
    def test_the_unit_tests_of_the_components_pass(self):
        with self.assertLogs(self._logger.name, "INFO") as log:
            failure = self._run_suite()
        if failure:
            errors = [line for line in log.output if line.startswith("ERROR")]
            self.fail("\n".join([str(failure), *errors]))
        # A suite that is not found succeeds, too.
        passed = re.search(r"Passed (\d+) tests", "\n".join(log.output))
        self.assertTrue(passed, "The browser did not say how many tests passed.")
        self.assertGreaterEqual(int(passed[1]), _written_tests())

    def _run_suite(self):
        try:
            self.browser_js(
                f"/web/tests?headless&loglevel=2&preset=desktop&timeout=15000&id={_hash(SUITE)}",
                "",
                login="admin",
                timeout=300,
                success_signal="[HOOT] Test suite succeeded",
                error_checker=lambda message: "[HOOT]" not in message,
            )
        except self.failureException as failure:
            return failure
        return None


def _hash(name):
    """Return the id that HOOT gives a suite."""
    return f"{reduce(lambda total, char: (31 * total + ord(char)) & 0xFFFFFFFF, name, 0):08x}"


def _written_tests():
    files = list(Path(file_path("llm_generate_job/static/tests")).rglob("*.test.js"))
    return sum(len(re.findall(r"^\s*test\(", path.read_text(), re.MULTILINE)) for path in files)
