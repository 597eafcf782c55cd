import unittest

import context  # noqa: F401
from lib import house_rules, odoo_lint


class TestHouseRules(unittest.TestCase):
    def test_a_long_file_is_found(self):
        texts = {"a.py": "\n" * 301, "b.py": "\n" * 300, "static/lib/c.js": "\n" * 999}
        self.assertIn("a.py: 301 lines", house_rules._too_long(texts))
        self.assertEqual(house_rules._too_long(texts).count("\n"), 0)

    def test_a_word_is_found_with_its_line(self):
        texts = {"a.py": "one\nsee pkg.example.org/x\n"}
        self.assertEqual(
            house_rules._find(texts, {"pkg.example.org"}), "a.py:2: see pkg.example.org/x"
        )
        self.assertEqual(house_rules._find(texts, {"example.org"}), "")
        self.assertEqual(house_rules._find(texts, set()), "")

    def test_a_sudo_without_a_reason_is_found(self):
        bare, said = "x = self.sudo()\n", "# sudo: figures only.\nx = self.sudo()\n"
        texts = {"a.py": bare, "b.py": said, "tests/c.py": bare, "d.py": said + "\n" * 3 + bare}
        self.assertEqual(
            house_rules._bare_sudo(texts), "a.py:1: x = self.sudo()\nd.py:6: x = self.sudo()"
        )
        self.assertEqual(house_rules._bare_sudo({"e.py": bare.replace("\n", "  # sudo: why")}), "")

    def test_the_servers_of_this_machine_are_known(self):
        self.assertTrue(house_rules.registry_hosts())

    def test_only_findings_about_our_modules_count(self):
        text = "FAIL: Subtest A.b (module='mail')\nx\nFAIL: Subtest A.b (module='llm_tool')\ny"
        self.assertEqual(odoo_lint._about_us(text), ["FAIL: Subtest A.b (module='llm_tool')\ny"])


if __name__ == "__main__":
    unittest.main()
