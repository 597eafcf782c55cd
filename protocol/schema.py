"""Validation of a job's inputs, or of its answer, against a JSON Schema: anybody's."""

import contextlib
import contextvars
import functools
import itertools
import json
import time

import jsonschema
import jsonschema_specifications
import re2
import referencing
import referencing.exceptions
import referencing.jsonschema

#: Errors told at once.
ERROR_LIMIT = 10
#: Characters of the path of an error.
PATH_LIMIT = 200
#: Seconds that a check may take: a schema of references can ask for the same again and again.
TIME_LIMIT = 5.0
#: Characters of a schema.
SCHEMA_LIMIT = 1_000_000
#: Steps of regular expressions in one check, which take less than a second.
STEP_LIMIT = 20_000_000
#: Steps for which the compilation of one instruction of a pattern counts.
COMPILATION = 100
#: Items that are compared with each other; of more, their texts are.
COMPARED = 300
#: Keywords that look at one value and are done: they need no bound.
PLAIN = ("type", "format", "minimum", "maximum", "minLength", "maxLength")
#: What libraries raise on schemas that are none, or have no end.
BROKEN = (
    jsonschema.exceptions.ValidationError,
    jsonschema.exceptions.UnknownType,
    referencing.exceptions.Unresolvable,
    referencing.exceptions.NoSuchAnchor,
    ArithmeticError,
    AttributeError,
    LookupError,
    RecursionError,
    TimeoutError,
    TypeError,
    ValueError,
)

#: What is left of a check: its end and the steps of regular expressions.
_budget = contextvars.ContextVar("budget")

OPTIONS = re2.Options()
OPTIONS.log_errors = False
OPTIONS.never_capture = True
OPTIONS.max_mem = 1 << 20  # of a compiled pattern, which takes a tenth of a second at most


def _refuse_when_late():
    if time.monotonic() > _budget.get()["end"]:
        raise TimeoutError(f"the check takes longer than {TIME_LIMIT:.0f} seconds")


def _guarded(keyword):
    def check(checker, value, instance, schema):
        _refuse_when_late()
        for error in keyword(checker, value, instance, schema) or ():
            _refuse_when_late()  # of one list, each item can be wrong
            yield error

    return check


def _search(pattern, text):
    """Return whether a pattern is found; None where it cannot be told.

    RE2 neither backtracks nor holds the interpreter's lock: a search takes as many steps as its
    program has instructions, for each byte. What it cannot do in so many, as looking around and
    referring back, is not told.
    """
    _refuse_when_late()
    budget = _budget.get()
    if budget["steps"] <= 0:
        return None
    try:
        compiled = re2.compile(pattern, OPTIONS)
        budget["steps"] -= compiled.programsize * COMPILATION
        needed = compiled.programsize * len(text.encode())
        if needed > budget["steps"]:
            return None
        budget["steps"] -= needed
        return compiled.search(text) is not None
    except (re2.error, UnicodeEncodeError):
        return None


def _pattern(checker, pattern, instance, _schema):
    # What cannot be told is left to the provider, who checks it anyway.
    if checker.is_type(instance, "string") and _search(pattern, instance) is False:
        yield jsonschema.ValidationError(f"{instance!r} does not match {pattern!r}")


def _pattern_properties(checker, properties, instance, _schema):
    if not checker.is_type(instance, "object"):
        return
    for pattern, subschema in properties.items():
        for name, value in instance.items():
            if _search(pattern, name):
                yield from checker.descend(value, subschema, path=name, schema_path=pattern)


def _additional_properties(checker, allowed, instance, schema):
    if not checker.is_type(instance, "object"):
        return
    known = schema.get("properties", {})
    named = schema.get("patternProperties", {})
    # A name of which cannot be told whether it is known counts as known.
    extra = [
        name
        for name in instance
        if name not in known and all(_search(pattern, name) is False for pattern in named)
    ]
    if checker.is_type(allowed, "object"):
        for name in extra:
            yield from checker.descend(instance[name], allowed, path=name)
    elif allowed is False and extra:
        names = ", ".join(map(repr, sorted(extra)))
        verb = "was" if len(extra) == 1 else "were"
        yield jsonschema.ValidationError(
            f"Additional properties are not allowed ({names} {verb} unexpected)"
        )


def _unique_items(original):
    def check(checker, wanted, instance, schema):
        if not (checker.is_type(instance, "array") and len(instance) > COMPARED):
            yield from original(checker, wanted, instance, schema) or ()
        elif wanted and len({json.dumps(one, sort_keys=True) for one in instance}) < len(instance):
            yield jsonschema.ValidationError("the items are not unique")

    return check


@functools.cache
def _guarded_class(validator_class):
    """Return a class of validators that no schema keeps busy for ever."""
    keywords = dict(validator_class.VALIDATORS)
    keywords |= {
        "pattern": _pattern,
        "patternProperties": _pattern_properties,
        "additionalProperties": _additional_properties,
        "uniqueItems": _unique_items(keywords["uniqueItems"]),
    }
    keywords |= {name: _guarded(keywords[name]) for name in keywords.keys() - set(PLAIN)}
    return jsonschema.validators.extend(validator_class, keywords)


def _without_dialects(schema):
    """Return a schema whose parts all are of one dialect: another would bring its own class."""
    if isinstance(schema, list):
        return [_without_dialects(part) for part in schema]
    if isinstance(schema, dict):
        return {
            name: _without_dialects(part)
            for name, part in schema.items()
            if not (name == "$schema" and isinstance(part, str))
        }
    return schema


def _known_schemas():
    """Yield the schemas of schemas, without what would lead out of the guarded class."""
    for address, known in jsonschema_specifications.REGISTRY.items():
        dialect = referencing.jsonschema.specification_with(known.contents["$schema"])
        yield address, dialect.create_resource(_without_dialects(known.contents))


SPECIFICATIONS = referencing.Registry().with_resources(_known_schemas()).crawl()


@functools.lru_cache(maxsize=128)
def _validator(schema_text):
    if len(schema_text) > SCHEMA_LIMIT:
        raise ValueError(f"it is longer than {SCHEMA_LIMIT} characters")
    schema = json.loads(schema_text)
    dialect = schema.get("$schema") if isinstance(schema, dict) else None
    latest = jsonschema.validators.Draft202012Validator
    validator_class = jsonschema.validators.validator_for({"$schema": dialect}, default=latest)
    guarded = _guarded_class(validator_class)
    # Not by `check_schema()`, which has no bounds.
    with _limited():
        rules = _without_dialects(validator_class.META_SCHEMA)
        for error in guarded(rules, registry=SPECIFICATIONS).iter_errors(schema):
            raise error
    if '"patternProperties"' in schema_text:
        # Its search has no bounds. What such a schema says of other names is the provider's.
        guarded = jsonschema.validators.extend(guarded, {"unevaluatedProperties": lambda *_: ()})
    # A registry of its own: without one, the schema may have any address looked up.
    return guarded(_without_dialects(schema), registry=referencing.Registry())


def validator(schema, about="inputs", name="input_schema"):
    """Return a function that returns one sentence for each thing that is wrong with some inputs.

    The sentences have the path of what they are about; there are none when all is well, or when
    there is no schema. A schema that is none is wrong, too, and so is one that takes too long.

    :param schema: a JSON Schema, or its text
    :param str about: what is looked at, as the sentences call it
    :param str name: what they call the schema, where that is wrong

    >>> check = validator({"required": ["prompt"]})
    >>> check({})
    ["inputs: 'prompt' is a required property"]
    >>> check({"prompt": "Hello"})
    []
    """
    if not schema:
        return lambda _value: []
    try:
        text = schema if isinstance(schema, str) else json.dumps(schema, sort_keys=True)
        checked = _validator(text)
    except BROKEN as error:
        sentence = f"{name}: {_reason(error)}"
        return lambda _value: [sentence]
    return functools.partial(_errors, checked, about, name)


def _reason(error):
    return (getattr(error, "message", "") or str(error) or type(error).__name__)[:200]


@contextlib.contextmanager
def _limited():
    token = _budget.set({"end": time.monotonic() + TIME_LIMIT, "steps": STEP_LIMIT})
    try:
        yield
    finally:
        _budget.reset(token)


def _errors(checked, about, name, value):
    try:
        with _limited():
            # Of inputs of a million characters, each can be wrong: no more is looked at than told.
            return sorted(
                f"{about}{error.json_path.removeprefix('$')[:PATH_LIMIT]}: {error.message[:200]}"
                for error in itertools.islice(checked.iter_errors(value), ERROR_LIMIT)
            )
    except BROKEN as error:
        return [f"{name}: {_reason(error)}"]
