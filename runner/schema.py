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


def schema_errors(schema, inputs):
    """Return one sentence for each thing that is wrong, with its path; empty when all is well.

    >>> schema_errors({"required": ["prompt"]}, {})
    ["inputs: 'prompt' is a required property"]
    """
    try:
        errors = sorted(_validator(json.dumps(schema, sort_keys=True)).iter_errors(inputs), key=str)
    except jsonschema.exceptions.SchemaError as error:
        return [f"input_schema: {error.message[:200]}"]
    except referencing.exceptions.Unresolvable as error:
        return [f"input_schema: {str(error)[:200]}"]
    return [
        f"inputs{error.json_path.removeprefix('$')}: {error.message[:200]}"
        for error in errors[:ERROR_LIMIT]
    ]
