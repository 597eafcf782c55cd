"""Judging a schema, and parameters by it: whoever wrote either, it takes bounded steps."""

import itertools

import re2
from jsonschema import Draft202012Validator, FormatChecker, ValidationError
from jsonschema.exceptions import SchemaError, best_match
from jsonschema.validators import extend
from referencing import Registry

#: Steps of patterns in one check, which take less than a second.
STEP_LIMIT = 20_000_000
#: References followed in one check: some that name each other ask for the same without end.
REFERENCE_LIMIT = 10_000
#: Errors among which the one is chosen that is told: of a long list, each item can be wrong.
ERROR_LIMIT = 100
ENDLESS = "its references go round without an end"
UNBOUNDED = "it uses patternProperties, or a $schema within; name the properties"


def _options():
    options = re2.Options()
    options.log_errors = False
    options.never_capture = True
    options.max_mem = 1 << 20  # bytes of a compiled pattern
    return options


def _compile(pattern):
    return re2.compile(pattern, _OPTIONS)


_OPTIONS = _options()
_FORMATS = FormatChecker(())


@_FORMATS.checks("regex", raises=(re2.error, UnicodeEncodeError))
def _is_pattern(value):
    return not isinstance(value, str) or bool(_compile(value))


def check_schema(schema):
    """Refuse what is no schema, and what parameters could not be judged by.

    :raise SchemaError: with what is wrong
    """
    Draft202012Validator.check_schema(schema, format_checker=_FORMATS)
    if isinstance(schema, dict):
        _bounded_schema(schema)


def best_error(schema, parameters):
    """Return the `ValidationError` that says best what is wrong, None if all is well.

    :param dict schema: a JSON Schema
    :raise SchemaError: for a schema by which nobody can judge in bounded steps
    :raise Unresolvable: for a reference that leads nowhere; none is fetched
    """
    validator = extend(Draft202012Validator, _bounded_keywords())
    # An empty registry: a schema must not make the server fetch a remote "$ref".
    checker = validator(_bounded_schema(schema), registry=Registry())
    try:
        return best_match(itertools.islice(checker.iter_errors(parameters), ERROR_LIMIT))
    except RecursionError as error:
        raise SchemaError(ENDLESS) from error


def _bounded_schema(schema):
    """Return a schema that stays within our validator, whose patterns have bounds."""
    schema = {name: part for name, part in schema.items() if name != "$schema"}
    if _names(schema) & {"$schema", "patternProperties"}:
        raise SchemaError(UNBOUNDED)
    return schema


def _names(schema):
    """Return the names of all keys within a schema."""
    names, level = set(), [schema]
    while level:
        deeper = []
        for part in level:
            if isinstance(part, dict):
                names |= part.keys()
                deeper += part.values()
            elif isinstance(part, list):
                deeper += part
        level = deeper
    return names


def _bounded_keywords():
    """Return keywords for one check, which share what it may take."""
    left = {"steps": STEP_LIMIT, "references": REFERENCE_LIMIT}

    def pattern(checker, value, instance, _schema):
        if not checker.is_type(instance, "string"):
            return
        try:
            # RE2 does not backtrack: it takes as many steps as a pattern is long, for each byte.
            compiled = _compile(value)
            left["steps"] -= compiled.programsize * len(instance.encode())
            if left["steps"] < 0 or not compiled.search(instance):
                yield ValidationError(f"{instance[:200]!r} does not match {value!r}")
        except (re2.error, UnicodeEncodeError):
            yield ValidationError(f"nobody can tell whether a text matches {value!r}")

    def counted(keyword):
        def check(checker, value, instance, schema):
            left["references"] -= 1
            if left["references"] < 0:
                raise RecursionError
            yield from keyword(checker, value, instance, schema) or ()

        return check

    references = ("$ref", "$dynamicRef")
    followed = {name: counted(Draft202012Validator.VALIDATORS[name]) for name in references}
    return {"pattern": pattern, **followed}
