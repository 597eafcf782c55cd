import ast
import subprocess
import tempfile
import unittest
from pathlib import Path

from lib import paths, provider_skeleton
from lib.say import HaltError

PROTOCOL = ("create_generation_job", "check_generation_job_status", "cancel_generation_job")
SHORT, LONG = "io", "a_b_cdef_ghijk_1"


class TestProviderSkeleton(unittest.TestCase):
    def setUp(self):
        super().setUp()
        self.into = Path(self.enterContext(tempfile.TemporaryDirectory()))

    def make(self, name):
        return provider_skeleton.write(name, self.into)

    def test_the_addon_is_about_its_service(self):
        folder = self.make("my_cloud")
        self.assertEqual(folder, self.into / "llm_my_cloud")
        self.assertTrue((folder / "static/description/icon.png").stat().st_size)
        manifest = ast.literal_eval((folder / "__manifest__.py").read_text())
        self.assertEqual(manifest["name"], "LLM My Cloud Provider")
        texts = [path.read_text() for path in folder.rglob("*.*")
                 if path.is_file() and path.suffix != ".png"]  # fmt: skip
        self.assertNotIn("acme", "".join(texts).lower())
        self.assertIn("class FakeMyCloud(", "".join(texts))

    def test_each_method_of_the_protocol_says_what_it_has_to_do(self):
        source = (self.make("zenith") / "models" / "llm_provider.py").read_text()
        functions = [n for n in ast.walk(ast.parse(source)) if isinstance(n, ast.FunctionDef)]
        documented = {node.name for node in functions if ast.get_docstring(node)}
        self.assertLessEqual({f"zenith_{name}" for name in PROTOCOL}, documented)

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

    def test_what_is_there_is_not_overwritten(self):
        self.make("zenith")
        for name in ("zenith", "openai", "generate_job"):
            with self.subTest(name), self.assertRaisesRegex(HaltError, "is there already"):
                self.make(name)
