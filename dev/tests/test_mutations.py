import dataclasses
import unittest

from lib import mutations

EXAMPLE = mutations.Mutation(
    name="example",
    guard="A list that rots is told.",
    file="dev/lib/mutations.py",
    old="def read(path=LIST):",
    new="def read_not(path=LIST):",
    tests=("TestBackoff.test_each_error_type_has_its_consequence",),
)


class TestMutations(unittest.TestCase):
    """The list of tests/mutations.toml, without breaking anything."""

    def test_the_texts_and_the_tests_of_the_list_are_there(self):
        self.assertEqual(mutations.faults_of(mutations.read()), [])

    def test_a_list_that_has_rotted_is_told(self):
        wrong = {
            "not once": {"old": "a text that nobody wrote"},
            "times": {"old": "def"},
            "no file": {"file": "gone.py"},
            "no test": {"tests": ("TestBackoff.test_that_is_gone",)},
            "no test check_gone": {"faults": ("check_gone",)},
            "names no test": {"tests": ()},
            "syntax": {"new": "def read(:"},
        }
        self.assertEqual(mutations.faults_of([EXAMPLE]), [])
        for told, values in wrong.items():
            with self.subTest(told):
                rotten = dataclasses.replace(EXAMPLE, **values)
                self.assertIn(told, "\n".join(mutations.faults_of([rotten])))
        self.assertIn("twice", "\n".join(mutations.faults_of([EXAMPLE, EXAMPLE])))

    def test_a_test_names_its_module(self):
        mutation = dataclasses.replace(EXAMPLE, tests=("TestA.test_b", "llm_tool:TestC.test_d"))
        wanted = [("llm_generate_job", "TestA.test_b"), ("llm_tool", "TestC.test_d")]
        self.assertEqual(mutation.wanted(), wanted)
