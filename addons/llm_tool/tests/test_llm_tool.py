import time
from datetime import date
from unittest.mock import patch

from psycopg2.errors import SerializationFailure, UniqueViolation

from odoo.exceptions import AccessError, UserError, ValidationError
from odoo.tests import Form
from odoo.tools import mute_logger

from odoo.addons.llm.openai_format import format_tools

from .. import schema as judge
from ..const import MAX_RESULT_SIZE
from .common import LlmToolCommon


class TestLlmTool(LlmToolCommon):
    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.classPatch(
            cls.registry["llm.tool"],
            "_get_available_implementations",
            lambda self: [("fake", "Fake")],
        )
        cls.tool = cls.env["llm.tool"].create({
            "name": "fake_tool",
            "description": "Does as a test says",
            "implementation": "fake",
            "input_schema": {
                "type": "object",
                "properties": {"number": {"type": "integer", "maximum": 5}},
            },
        })

    def _run(self, implementation, parameters=None):
        """Execute the fake tool as the user."""
        with patch.object(self.registry["llm.tool"], "fake_execute", implementation, create=True):
            return self.tool.with_user(self.user).execute(parameters)

    def test_a_tool_gets_its_parameters_and_answers(self):
        answer = self._run(
            lambda tool, parameters: {"twice": parameters["number"] * 2}, {"number": 2}
        )

        self.assertEqual(answer, {"twice": 4})
        self.assertEqual(self._run(lambda tool, parameters: parameters), {})

    def test_parameters_that_do_not_fit_are_refused_with_path_and_reason(self):
        for parameters, reason in (
            ({"number": 9}, r"at \$\.number, 9 is greater than the maximum of 5"),
            ({"number": "2"}, r"at \$\.number, '2' is not of type 'integer'"),
            ([1], r"at \$, \[1\] is not of type 'object'"),
        ):
            with self.subTest(parameters=parameters), self.assertRaisesRegex(UserError, reason):
                self._run(lambda tool, parameters: self.fail("It ran."), parameters)

    def test_a_tool_runs_as_the_current_user_even_from_superuser_mode(self):
        with patch.object(
            self.registry["llm.tool"],
            "fake_execute",
            lambda tool, parameters: [tool.env.su, tool.env.uid],
            create=True,
        ):
            self.assertEqual(
                self.tool.with_user(self.user).sudo().execute({}), [False, self.user.id]
            )

    def test_a_tool_does_not_run_as_the_system(self):
        with self.assertRaisesRegex(UserError, "Run tool “fake_tool” as a user"):
            self.tool.execute({})

    def test_an_archived_tool_does_not_run(self):
        self.tool.active = False

        with self.assertRaisesRegex(UserError, "archived"):
            self._run(lambda tool, parameters: "It ran.")

    def test_a_failure_is_told_in_a_sentence_and_undone(self):
        def fail(tool, parameters):
            tool.env.user.partner_id.ref = "changed"
            tool.env.flush_all()
            return {}["color"]

        with self.assertRaisesRegex(UserError, "“fake_tool” failed: 'color'"):
            self._run(fail)

        self.assertFalse(self.user.partner_id.ref)

    def test_a_database_conflict_is_left_to_odoo_to_try_again(self):
        def conflict(tool, parameters):
            raise SerializationFailure

        with self.assertRaises(SerializationFailure):
            self._run(conflict)

    def test_an_answer_is_plain_and_bounded(self):
        self.assertEqual(
            self._run(lambda tool, parameters: {"day": date(2025, 1, 2), 3: (1, 2)}),
            {"day": "2025-01-02", "3": [1, 2]},
        )

        answer = self._run(lambda tool, parameters: ["x" * 100] * MAX_RESULT_SIZE)

        self.assertTrue(answer["truncated"])
        self.assertEqual(len(answer["content"]), MAX_RESULT_SIZE)

    def test_an_implementation_that_is_not_installed_is_told(self):
        with self.assertRaisesRegex(UserError, "“fake” is not installed"):
            self.tool.with_user(self.user).execute({})

    def test_a_remote_reference_is_not_fetched(self):
        self.tool.input_schema = {"type": "object", "$ref": "http://localhost/schema.json"}

        with (
            patch("urllib.request.urlopen") as fetch,
            self.assertRaisesRegex(UserError, "refers to “http://localhost/schema.json”"),
        ):
            self._run(lambda tool, parameters: "It ran.")

        fetch.assert_not_called()

    def _of_text(self, **keywords):
        return {"type": "object", "properties": {"a": {"type": "string", **keywords}}}

    def test_no_pattern_keeps_the_server_busy(self):
        evil, long = "a" * 60 + "!", "a" * 900_000 + "!"
        for pattern in (
            "^(?:a|aa){26}$", "^(a?){26}a{26}$", "^(?:ab|a(?:b)|ab?){20}c", "(a+)+$", "^(a|a)*$",
            "(x+x+)+y", "(.*a){25}b", "(a?){999}b", "(" * 25 + "a" + "+)" * 25 + "b",
        ):  # fmt: skip
            for text in (evil, long):
                with self.subTest(pattern=pattern[:40], length=len(text)):
                    self.tool.input_schema = self._of_text(pattern=pattern)
                    begin = time.monotonic()
                    with self.assertRaisesRegex(UserError, r"at \$\.a, .* does not match"):
                        self._run(lambda tool, parameters: self.fail("It ran."), {"a": text})
                    self.assertLess(time.monotonic() - begin, 5)

    def test_many_texts_together_keep_the_server_no_longer(self):
        texts = {"type": "array", "items": {"pattern": "(a?){999}b"}}
        self.tool.input_schema = {"type": "object", "properties": {"a": texts}}
        begin = time.monotonic()
        with self.assertRaisesRegex(UserError, "does not match"):
            self._run(lambda tool, parameters: "It ran.", {"a": ["a" * 9_000] * 100})
        self.assertLess(time.monotonic() - begin, 5)

    def test_a_long_list_of_errors_is_not_gone_through(self):
        texts = {"type": "array", "items": {"type": "string"}}
        self.tool.input_schema = {"type": "object", "properties": {"a": texts}}
        last = patch.object(judge, "best_match", side_effect=lambda errors: list(errors)[-1])
        reason = rf"at \$\.a\[{judge.ERROR_LIMIT - 1}\], 0 is"
        with last, self.assertRaisesRegex(UserError, reason):
            self._run(lambda tool, parameters: "It ran.", {"a": [0] * 9_000})

    def test_a_pattern_that_nobody_can_bound_is_refused_with_the_schema(self):
        named = {"type": "object", "patternProperties": {"(a+)+$": {}}}
        dialect = "http://json-schema.org/draft-07/schema#"
        for schema in (
            *(self._of_text(pattern=one) for one in (r"^(a+)*\1$", "(?=(a+)+$)b", "(?<=a+)b", "(")),
            self._of_text(pattern="(?:a{9999}){9999}"),
            {**named, "additionalProperties": False},
            {**named, "unevaluatedProperties": False},
            self._of_text(**{"$schema": dialect, "pattern": "(a+)+$"}),
        ):
            with self.subTest(schema=schema), self.assertRaisesRegex(ValidationError, "Schema"):
                self.tool.input_schema = schema
        # A schema that an implementation computes is not looked at before it is used.
        for schema in (named, self._of_text(pattern="(?=(a+)+$)b")):
            with self.subTest(schema=schema):
                with patch("odoo.addons.llm_tool.models.llm_tool.check_schema"):
                    self.tool.input_schema = schema
                with self.assertRaisesRegex(UserError, "[Nn]obody can"):
                    self._run(lambda tool, parameters: "It ran.", {"a": "a" * 60 + "!"})

    def test_a_dialect_and_patterns_of_letters_are_taken(self):
        self.tool.input_schema = {
            "$schema": "http://json-schema.org/draft-07/schema#",
            **self._of_text(pattern=r"^\p{Lu}\d$"),
        }
        self.assertEqual(self._run(lambda tool, parameters: "It ran.", {"a": "É7"}), "It ran.")
        with self.assertRaisesRegex(UserError, "does not match"):
            self._run(lambda tool, parameters: self.fail("It ran."), {"a": "é7"})

    def test_references_without_an_end_are_refused(self):
        parts = {"l0": {"type": "string"}}
        for number in range(1, 40):
            parts[f"l{number}"] = {"anyOf": [{"$ref": f"#/$defs/l{number - 1}"}] * 2}
        for reference in ("#", "#/$defs/l39"):
            with self.subTest(reference=reference):
                self.tool.input_schema = {"type": "object", "$defs": parts, "$ref": reference}
                with self.assertRaisesRegex(UserError, "without an end"):
                    self._run(lambda tool, parameters: "It ran.", {})

    def test_names_are_function_names_and_unique(self):
        for name in ("two words", "1st", "x" * 65, "naïve"):
            with self.subTest(name=name), self.assertRaisesRegex(ValidationError, "letters"):
                self.tool.name = name
        self.tool.name = "fake-tool_2"
        with self.assertRaises(UniqueViolation), mute_logger("odoo.sql_db"):
            self.tool.create({
                "name": "fake-tool_2",
                "description": "The same again",
                "implementation": "fake",
            })

    def test_a_copy_gets_a_name_of_its_own(self):
        self.assertEqual(self.tool.copy().name, "fake_tool_copy")

    def test_a_schema_that_is_none_is_refused(self):
        for text, reason in (
            ("{", "not valid JSON"),
            ('{"type": "objekt"}', "not a JSON Schema"),
            ('{"type": "array"}', "must be an object schema"),
            ("", "must be an object schema"),
        ):
            with self.subTest(text=text), self.assertRaisesRegex(ValidationError, reason):
                self.tool.input_schema_text = text
                self.tool.flush_recordset()

    def test_users_read_tools_and_who_has_settings_rights_changes_them(self):
        # A tool runs with the rights of whoever asks, in all companies.
        born = {"name": "mine", "description": "Mine", "implementation": "server_action"}
        for user in (self.user, self.manager):
            tool = self.tool.with_user(user)
            self.assertEqual(tool.name, "fake_tool")
            with self.assertRaises(AccessError):
                tool.active = False
            with self.assertRaises(AccessError):
                tool.create(born)
            with self.assertRaises(AccessError):
                tool.unlink()

        self.assertTrue(self.tool.with_user(self.admin).create(born))
        self.tool.with_user(self.admin).active = False
        self.assertFalse(self.tool.active)

    def test_a_tool_is_declared_as_a_function(self):
        self.assertEqual(
            format_tools(self.tool),
            [
                {
                    "type": "function",
                    "function": {
                        "name": "fake_tool",
                        "description": "Does as a test says",
                        "parameters": self.tool.input_schema,
                    },
                }
            ],
        )


class TestLlmToolForm(LlmToolCommon):
    def test_the_schema_follows_the_implementation(self):
        with Form(self.env["llm.tool"].with_user(self.admin)) as form:
            form.name = "mine"
            form.description = "My own search"
            form.implementation = "search_records"
            self.assertIn('"domain"', form.input_schema_text)
            form.implementation = "server_action"
            self.assertIn('"action_id"', form.input_schema_text)
            form.implementation = "read_records"
            tool = form.save()

        self.assertEqual(tool.input_schema["required"], ["model", "fields"])

    def test_a_schema_edited_in_the_form_is_kept(self):
        tool = self.env.ref("llm_tool.llm_tool_search_records").with_user(self.admin)

        with Form(tool) as form:
            form.input_schema_text = '{"type": "object", "maxProperties": 1}'

        self.assertEqual(tool.input_schema, {"type": "object", "maxProperties": 1})
