"""Validation of a job's inputs against a JSON Schema."""

import functools
import json

import jsonschema
import referencing.exceptions

#: Errors told at once.
ERROR_LIMIT = 10


@functools.lru_cache(maxsize=128)
def _validator(schema_text):
    schema = json.loads(schema_text)
    validator_class = jsonschema.validators.validator_for(schema)
    validator_class.check_schema(schema)
    # A registry of its own: without one, the schema may have any address looked up.
    return validator_class(schema, registry=referencing.Registry())


def validator(schema):
    """Return a function that returns one sentence for each thing that is wrong with some inputs.

    The sentences have the path of what they are about; there are none when all is well, or when
    there is no schema.

    >>> check = validator({"required": ["prompt"]})
    >>> check({})
    ["inputs: 'prompt' is a required property"]
    >>> check({"prompt": "Hello"})
    []
    """
    if not schema:
        return lambda _inputs: []
    try:
        checked = _validator(json.dumps(schema, sort_keys=True))
    except jsonschema.exceptions.SchemaError as error:
        sentence = f"input_schema: {error.message[:200]}"
        return lambda _inputs: [sentence]
    return functools.partial(_errors, checked)


def _errors(checked, inputs):
    try:
        errors = sorted(checked.iter_errors(inputs), key=str)
    except referencing.exceptions.Unresolvable as error:
        return [f"input_schema: {str(error)[:200]}"]
    return [
        f"inputs{error.json_path.removeprefix('$')}: {error.message[:200]}"
        for error in errors[:ERROR_LIMIT]
    ]
