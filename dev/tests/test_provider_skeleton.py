import ast
import subprocess
import tempfile
import unittest
from pathlib import Path

import context  # noqa: F401
from lib import paths, provider_skeleton
from lib.say import HaltError

PROTOCOL = {
    "create_generation_job",
    "check_generation_job_status",
    "cancel_generation_job",
}
SHORT, LONG = "io", "a_b_cdef_ghijk_1"


class TestProviderSkeleton(unittest.TestCase):
    def setUp(self):
        super().setUp()
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.into = Path(folder.name)

    def make(self, name):
        return provider_skeleton.write(name, self.into)

    def texts(self, folder):
        return {
            str(path.relative_to(folder)): path.read_text()
            for path in folder.rglob("*.*")
            if path.is_file() and path.suffix != ".png"
        }

    def test_it_has_all_that_an_addon_has(self):
        folder = self.make("zenith")

        self.assertEqual(folder, self.into / "llm_zenith")
        for name in (
            "README.md",
            "static/description/icon.png",
            "static/description/index.html",
            "tests/test_contract.py",
        ):
            self.assertTrue((folder / name).stat().st_size, name)
        manifest = ast.literal_eval((folder / "__manifest__.py").read_text())
        self.assertEqual(manifest["name"], "LLM Zenith Provider")
        self.assertIn("llm_generate_job", manifest["depends"])

    def test_each_method_of_the_protocol_says_what_it_has_to_do(self):
        source = (self.make("zenith") / "models" / "llm_provider.py").read_text()
        documented = {
            node.name
            for node in ast.walk(ast.parse(source))
            if isinstance(node, ast.FunctionDef) and ast.get_docstring(node)
        }
        self.assertLessEqual({f"zenith_{name}" for name in PROTOCOL}, documented)

    def test_nothing_is_left_of_the_template(self):
        texts = self.texts(self.make("my_cloud"))

        self.assertNotIn("acme", "".join(texts.values()).lower())
        self.assertIn("class FakeMyCloud(", texts["tests/common.py"])
        self.assertIn('("my_cloud", "My Cloud")', texts["models/llm_provider.py"])

    def test_the_linter_accepts_names_of_all_lengths(self):
        self.assertEqual(len(LONG), provider_skeleton.LONGEST)
        ruff = paths.venv_python("lint").parent / "ruff"
        config = ("--no-cache", "--config", str(paths.ROOT / "pyproject.toml"))
        folders = [self.make(name) for name in (SHORT, LONG)]
        for command in (("check",), ("format", "--check")):
            result = subprocess.run(
                [ruff, *command, *config, *folders], capture_output=True, text=True, check=False
            )
            self.assertEqual(result.returncode, 0, result.stdout + result.stderr)

    def test_a_name_that_no_service_can_have_is_refused(self):
        for name in ("", "Acme", "2acme", "a-b", "a__b", "a_", "../acme", LONG + "x"):
            with self.subTest(name), self.assertRaisesRegex(HaltError, "small letters"):
                self.make(name)
        self.assertFalse(list(self.into.iterdir()))

    def test_what_is_there_is_not_overwritten(self):
        folder = self.make("zenith")
        (folder / "README.md").write_text("Mine")
        for name in ("zenith", "openai", "generate_job"):
            with self.subTest(name), self.assertRaisesRegex(HaltError, "is there already"):
                self.make(name)
        self.assertEqual((folder / "README.md").read_text(), "Mine")


if __name__ == "__main__":
    unittest.main()
