import json
import socket
import threading
import time
from contextlib import contextmanager
from unittest.mock import patch

from hypothesis import example, given, settings
from hypothesis import strategies as st

from odoo.exceptions import UserError
from odoo.tests import BaseCase, tagged

from ..protocol import schema
from . import fuzzing
from .common import LlmGenerationCommon

SETTINGS = settings(fuzzing.SETTINGS, max_examples=500)
#: Seconds; a check ends after five, and this machine may be busy.
BOUND = 30
KEYWORDS = (
    "$defs", "$id", "$ref", "$schema", "additionalProperties", "allOf", "anyOf", "const",
    "contains", "default", "dependentSchemas", "enum", "format", "if", "items", "maxLength",
    "maximum", "minItems", "multipleOf", "not", "oneOf", "pattern", "patternProperties",
    "prefixItems", "properties", "propertyNames", "required", "then", "type",
    "unevaluatedProperties", "uniqueItems",
)  # fmt: skip
WORDS = (
    "#", "#/$defs/a", "#/properties/a", "http://127.0.0.1:9/x.json", "file:///etc/passwd", "string",
    "object", "array", "number", "a", "b", "(a+)+$", "(a|a)*$", "(", "[", "^a*b*c*d*$", "\\1", "://",
    "http://json-schema.org/draft-04/schema#", "https://json-schema.org/draft/2020-12/schema",
)  # fmt: skip
#: Patterns that keep a backtracking engine busy for ever, or its compiler.
CATASTROPHIC = (
    "^(?:a|aa){26}$", "^(a?){26}a{26}$", "^(?:ab|a(?:b)|ab?){20}c", "(a+)+$", "(a|a)*$", "(a|a?)+$",
    "(?=(a+)+$)a", ".*.*.*.*.*=x", r"^(a+)*\1$", "(?<=(a+)+)b", "(x+x+)+y", "(.*a){25}b",
    "(a?){999}(b?){999}c", "(?:(?:a{999}){999}){999}", "(?:a{9999}){9999}", "(?R)", "(?1)(a(?1))",
    "(" * 25 + "a" + "+)" * 25, "(" * 9000 + "a" + ")*" * 9000, "(a*)" * 5000 + "b",
)  # fmt: skip
scalars = (
    st.none()
    | st.booleans()
    | st.integers(-(10**20), 10**20)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.sampled_from(WORDS)
    | st.text(alphabet="ab\u202e\ud7ff", max_size=40)
)
anything = st.recursive(
    scalars,
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(["a", "b", "prompt"]), inner, max_size=3)
    ),
    max_leaves=10,
)
schemas = st.recursive(
    scalars,
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from((*KEYWORDS, "a", "b")), inner, max_size=4)
    ),
    max_leaves=15,
)


def exponential(depth=40):
    """Return a schema that asks for the same two to the power of `depth` times."""
    parts = {"l0": {"type": "string"}}
    for number in range(1, depth):
        parts[f"l{number}"] = {"anyOf": [{"$ref": f"#/$defs/l{number - 1}"}] * 2}
    return {"$defs": parts, "$ref": f"#/$defs/l{depth - 1}"}


def nested(depth):
    value = []
    for _level in range(depth):
        value = [value]
    return value


@tagged("post_install", "-at_install")
class TestFuzzSchema(BaseCase):
    """Any schema and any inputs: an answer in sentences, in time, and nothing is fetched."""

    def setUp(self):
        super().setUp()
        self.enterContext(patch.object(socket.socket, "connect", side_effect=AssertionError))

    def _sentences(self, given_schema, inputs):
        begin = time.monotonic()
        sentences = schema.validator(given_schema)(inputs)
        self.assertLess(time.monotonic() - begin, BOUND)
        self.assertLessEqual(len(sentences), schema.ERROR_LIMIT)
        for sentence in sentences:
            self.assertRegex(sentence, r"(?s)^input(s|_schema)")
        return sentences

    @SETTINGS
    @given(schemas, anything)
    @example({"$ref": "#"}, {})
    @example({"$schema": ["x"]}, {})
    @example({"$id": "http://[", "$ref": "x"}, {})
    @example({"pattern": "("}, "a")
    @example("no JSON", {})
    @example({"multipleOf": 1e-300}, 10**400)
    def test_any_schema_and_any_inputs(self, given_schema, inputs):
        self._sentences(given_schema, inputs)

    def test_schemas_without_an_end_are_refused_in_time(self):
        cases = {
            "references": (exponential(), {"a": 1}),
            "a circle": ({"$ref": "#"}, {}),
            "a deep value": ({"items": {"$ref": "#"}}, nested(20_000)),
        }
        for name, (given_schema, inputs) in cases.items():
            with self.subTest(name):
                [sentence] = self._sentences(given_schema, inputs)
                self.assertTrue(sentence.startswith("input_schema: "), sentence)

    def test_no_pattern_keeps_the_server_busy(self):
        evil, long = "a" * 60 + "!", "a" * 900_000 + "!"
        draft4 = "http://json-schema.org/draft-04/schema#"
        unevaluated = {"patternProperties": {"(a+)+$": {}}, "unevaluatedProperties": False}
        for given_schema, inputs in (
            *(({"pattern": pattern}, text) for pattern in CATASTROPHIC for text in (evil, long)),
            ({"patternProperties": {"^(?:a|aa){26}$": False}}, {evil: 1}),
            ({"patternProperties": {"(a+)+$": {}}, "additionalProperties": False}, {evil: 1}),
            (unevaluated, {evil: 1}),
            ({"$schema": "https://json-schema.org/draft/2019-09/schema", **unevaluated}, {evil: 1}),
            ({"properties": {"a": {"$schema": draft4, "pattern": "(a+)+$"}}}, {"a": evil}),
            ({"items": {"pattern": "[a-z]*$"}}, ["a" * 5000 + "!"] * 1000),
            ({"allOf": [{"pattern": ".{1,1000}" + str(one)} for one in range(10_000)]}, evil),
        ):
            with self.subTest(str(given_schema)[:80]), self._others_go_on():
                begin = time.monotonic()
                self._sentences(given_schema, inputs)
                self.assertLess(time.monotonic() - begin, schema.TIME_LIMIT + 3)

    @contextmanager
    def _others_go_on(self):
        """Require that other threads are never held up for long meanwhile."""
        done, gaps = threading.Event(), []

        def look():
            last = time.monotonic()
            while not done.wait(0.01):
                gaps.append(time.monotonic() - last)
                last = time.monotonic()
            gaps.append(time.monotonic() - last)

        watcher = threading.Thread(target=look)
        watcher.start()
        try:
            yield
        finally:
            done.set()
            watcher.join()
        self.assertLess(max(gaps), 2)

    def test_patterns_that_fail_slowly_elsewhere_are_judged(self):
        for pattern, text in (
            ("^(?:a|aa){26}$", "a" * 60),
            ("^(a?){26}a{26}$", "a" * 25),
            ("^(?:ab|a(?:b)|ab?){20}c", "ab" * 20),
            ("(a+)+$", "a" * 60 + "!"),
        ):
            with self.subTest(pattern):
                [sentence] = self._sentences({"pattern": pattern}, text)
                self.assertIn("does not match", sentence)

    def test_what_cannot_be_judged_in_time_is_left_to_the_provider(self):
        for pattern in (r"^(a+)*\1$", "(?=(a+)+$)b", "(?<=(a+)+)b", "(a?){999}b", "("):
            with self.subTest(pattern):
                self.assertEqual(self._sentences({"pattern": pattern}, "a" * 100_000), [])
                named = {"patternProperties": {pattern: {}}, "additionalProperties": False}
                self.assertEqual(self._sentences(named, {"a" * 100_000: 1}), [])

    def test_what_searches_without_a_bound_is_left_to_the_provider(self):
        named = {"patternProperties": {"^a": {}}, "unevaluatedProperties": False}
        for dialect in ("draft/2019-09", "draft/2020-12"):
            with self.subTest(dialect):
                given = {"$schema": f"https://json-schema.org/{dialect}/schema", **named}
                self.assertEqual(self._sentences(given, {"b": 1}), [])

    def test_a_schema_itself_is_looked_at_in_time(self):
        with patch.object(schema, "TIME_LIMIT", -1), self.assertRaises(TimeoutError):
            schema._validator('{"title": "Late"}')

    def test_patterns_mean_what_json_schema_says(self):
        for pattern, good, bad in (
            ("b", "abc", "ac"),
            ("a$", "ba", "a\n"),
            (r"^\d+$", "12", "\u0661"),
            (r"^\p{Lu}\p{L}*$", "\u00c9t\u00e9", "\u00e9t\u00e9"),
            ("^.$", "\U0001f600", "\n"),
            (r"^[\w.-]+\/x$", "a-b.c/x", "a b/x"),
        ):
            with self.subTest(pattern):
                self.assertEqual(self._sentences({"pattern": pattern}, good), [])
                self.assertEqual(len(self._sentences({"pattern": pattern}, bad)), 1)

    def test_long_lists_end_in_time(self):
        numbers = list(range(100_000))
        draft4 = "http://json-schema.org/draft-04/schema#"
        for given_schema, inputs in (
            ({"items": {"enum": numbers}}, [numbers[-1]] * 300_000),
            ({"$schema": draft4, "enum": [{"a": number} for number in range(20_000)]}, {}),
            ({"enum": ["x" * schema.SCHEMA_LIMIT]}, "a"),
        ):
            with self.subTest(str(given_schema)[:60]):
                begin = time.monotonic()
                [sentence] = self._sentences(given_schema, inputs)
                self.assertLess(time.monotonic() - begin, schema.TIME_LIMIT + 3)
                self.assertNotIn("xxx", sentence)

    def test_patterns_that_people_write_are_checked(self):
        for pattern, good, bad in (
            ("^[a-z]+$", "abc", "aBc"),
            (r"^#(?:[0-9a-f]{3}){1,2}$", "#ffaa00", "#ffa0"),
            (r"^\d{3,4}x\d{3,4}$", "1024x768", "10x10"),
            (r"^(https?://|data:).*$", "data:" + "x" * 10_000, "ftp://x"),
            (r".+@.+\..+", "someone@example.com", "nobody"),
        ):
            with self.subTest(pattern):
                self.assertEqual(self._sentences({"pattern": pattern}, good), [])
                [sentence] = self._sentences({"pattern": pattern}, bad)
                self.assertIn("does not match", sentence)

    def test_many_items_are_compared_in_time(self):
        items = [{"a": number} for number in range(20_000)]
        self.assertEqual(self._sentences({"uniqueItems": True}, items), [])
        [sentence] = self._sentences({"uniqueItems": True}, [*items, {"a": 7}])
        self.assertEqual(sentence, "inputs: the items are not unique")

    @SETTINGS
    @given(st.text(alphabet="ab()[]{}|*+?.^$\\1,-:=!<>", max_size=12))
    def test_any_pattern_is_judged_or_left(self, pattern):
        for given_schema, inputs in (
            ({"pattern": pattern}, "ab" * 1000),
            ({"patternProperties": {pattern: False}}, {"ab" * 1000: 1}),
        ):
            self.assertLessEqual(len(self._sentences(given_schema, inputs)), 1)


class TestFuzzInputs(LlmGenerationCommon):
    @settings(SETTINGS, max_examples=150)
    @given(schemas, anything)
    @example("no JSON", {"a": 1})
    @example({"$ref": "#"}, {"a": 1})
    @example({}, {"prompt": "\x00"})
    @example({}, {"prompt": "\\u0000"})
    @example({}, {"prompt": "\ud800"})
    @example({}, {"prompt": float("nan")})
    def test_a_job_with_any_inputs_is_queued_or_refused(self, given_schema, inputs):
        savepoint = self.env.cr.savepoint()
        try:
            self.native_model.details = {"input_schema": given_schema}
            job = self._create_job()
            try:
                job.generation_inputs = inputs
                self.env.flush_all()
                job.action_queue()
                self.assertEqual(job.state, "queued")
                self.assertLess(job.estimated_tokens, 10**7)
            except UserError as refusal:
                self.assertEqual(job.state, "draft")
                self.assertTrue(json.dumps(str(refusal)))
        finally:
            savepoint.close(rollback=True)
            self.env.invalidate_all(flush=False)
