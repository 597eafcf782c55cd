import doctest
import unittest

from lib import house, house_rules, odoo_lint, odoo_tests, peer_tests, weaknesses


def load_tests(_loader, tests, _pattern):
    for module in (house, odoo_tests, peer_tests, weaknesses):
        tests.addTests(doctest.DocTestSuite(module))
    return tests


class TestHouse(unittest.TestCase):
    def test_each_bar_is_of_a_measure(self):
        found = house.measure()
        self.assertLessEqual(set(house.BARS), set(found))
        self.assertLessEqual(house.OPEN, set(house.BARS))
        for name in house.BARS:
            self.assertGreater(found[name], 0)

    def test_a_word_is_found_with_its_line(self):
        texts = {"a.py": "one\nsee pkg.example.org/x\n"}
        self.assertEqual(
            house_rules.find(texts, {"pkg.example.org"}), "a.py:2: see pkg.example.org/x"
        )
        self.assertEqual(house_rules.find(texts, {"example.org"}), "")
        self.assertEqual(house_rules.find(texts, set()), "")

    def test_a_sudo_without_a_reason_is_found(self):
        bare, said = "x = self.sudo()\n", "# sudo: figures only.\nx = self.sudo()\n"
        texts = {"a.py": bare, "b.py": said, "tests/c.py": bare, "d.py": said + "\n" * 3 + bare}
        self.assertEqual(
            house_rules.bare_sudo(texts), "a.py:1: x = self.sudo()\nd.py:6: x = self.sudo()"
        )
        self.assertEqual(house_rules.bare_sudo({"e.py": bare.replace("\n", "  # sudo: why")}), "")

    def test_the_servers_of_this_machine_are_known(self):
        self.assertTrue(house_rules.registry_hosts())

    def test_only_findings_about_our_modules_count(self):
        text = "FAIL: Subtest A.b (module='mail')\nx\nFAIL: Subtest A.b (module='llm_tool')\ny"
        self.assertEqual(odoo_lint._about_us(text), ["FAIL: Subtest A.b (module='llm_tool')\ny"])
