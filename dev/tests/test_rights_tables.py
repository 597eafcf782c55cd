import unittest

from lib import inventory, modules

#: What tries the tables of an addon, of those that it has.
TRIED = {
    "test_each_model_has_a_line",
    "test_records",
    "test_each_method_has_a_line",
    "test_methods",
}
TRIED_ROUTES = {"test_each_route_has_a_line", "test_routes"}


class TestRightsTables(unittest.TestCase):
    def test_each_addon_says_who_may_do_what_and_tries_it(self):
        for module, folder in modules.folders().items():
            tests = {test[3] for test in inventory.written_tests(module, folder)}
            has_routes = any(folder.glob("controllers/*.py"))
            with self.subTest(module):
                self.assertTrue((folder / "security" / "RIGHTS.md").is_file())
                self.assertEqual(TRIED - tests, set())
                self.assertEqual(TRIED_ROUTES - tests if has_routes else set(), set())
