import time
from importlib.metadata import PackageNotFoundError, version
from unittest.mock import patch

from odoo.modules.module import Manifest, MissingDependency
from odoo.tests import BaseCase, tagged

from ..protocol.schema import ERROR_LIMIT, TIME_LIMIT, validator

SCHEMA = {
    "type": "object",
    "required": ["prompt"],
    "properties": {
        "prompt": {"type": "string", "minLength": 1},
        "size": {"type": "object", "properties": {"width": {"maximum": 1024}}},
    },
    "additionalProperties": False,
}


@tagged("post_install", "-at_install")
class TestSchema(BaseCase):
    def test_a_library_that_is_missing_is_told_when_the_module_is_installed(self):
        def version_on_debian_12(name):
            if name == "referencing":
                raise PackageNotFoundError(name)
            return version(name)

        manifest = Manifest.for_addon("llm_generate_job")
        manifest.check_manifest_dependencies()
        with (
            patch("importlib.metadata.version", version_on_debian_12),
            patch("importlib.import_module", side_effect=ImportError),
            self.assertRaises(MissingDependency) as refusal,
        ):
            manifest.check_manifest_dependencies()
        self.assertEqual(refusal.exception.dependency, "referencing")

    def test_good_inputs_have_no_errors(self):
        self.assertEqual(validator(SCHEMA)({"prompt": "A cat", "size": {"width": 512}}), [])

    def test_each_error_is_told_with_its_path(self):
        errors = validator(SCHEMA)({"prompt": 7, "size": {"width": 4096}, "color": "red"})
        self.assertEqual(len(errors), 3)
        text = "\n".join(errors)
        self.assertIn("inputs.prompt: 7 is not of type 'string'", text)
        self.assertIn("inputs.size.width: 4096 is greater than the maximum of 1024", text)
        self.assertIn("'color' was unexpected", text)

    def test_a_reference_that_leads_nowhere_is_told(self):
        for address in ("#/components/schemas/Input", "http://127.0.0.1:9/schema.json"):
            with self.subTest(address=address):
                [error] = validator({"properties": {"a": {"$ref": address}}})({"a": 1})
                self.assertIn("input_schema", error)

    def test_a_schema_has_no_address_looked_up(self):
        with patch("urllib.request.urlopen", side_effect=OSError) as urlopen:
            check = validator({"properties": {"a": {"$ref": "http://127.0.0.1:9/a.json"}}})
            check({"a": 1})
        urlopen.assert_not_called()

    def test_no_flood_of_errors_is_told(self):
        schema = {"type": "array", "items": {"type": "string"}}
        self.assertEqual(len(validator(schema)([1] * 100)), ERROR_LIMIT)

    def test_no_more_errors_are_looked_for_than_are_told(self):
        tags = {"items": {"type": "string"}}
        inputs = {"tags": [0] * 330_000}
        for schema, text in (
            (tags, "inputs.tags[0]: 0 is not of type 'string'"),
            ({"anyOf": [tags, tags]}, "input"),
        ):
            with self.subTest(schema=schema):
                check = validator({"properties": {"tags": schema}})
                begin = time.monotonic()
                errors = check(inputs)
                self.assertLess(time.monotonic() - begin, TIME_LIMIT + 2)
                self.assertTrue(1 <= len(errors) <= ERROR_LIMIT, len(errors))
                self.assertLess(max(map(len, errors)), 500)
                self.assertIn(text, errors[0])

    def test_a_schema_that_is_none_is_an_error_too(self):
        for schema in ({"type": "objekt"}, {"properties": 7}):
            with self.subTest(schema=schema):
                [error] = validator(schema)({"prompt": "A cat"})
                self.assertTrue(error.startswith("input_schema: "), error)
