import re

#: what the services accept as the name of a function
TOOL_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_-]{0,63}")

#: A result goes into the prompt of the next turn, so its size is bounded (characters of JSON).
MAX_RESULT_SIZE = 16_000
MAX_CELL_SIZE = 2_000
MAX_RECORDS = 100
DEFAULT_RECORDS = 20
#: counting further costs seconds on big tables and tells a model nothing more
MAX_COUNT = 10_000

_MODEL = {"type": "string", "description": "Technical name of the model, such as res.partner."}
_DOMAIN = {
    "type": "array",
    "description": 'Odoo search domain, such as [["name", "ilike", "smith"]]. Empty: all records.',
}
_PAGE = {
    "limit": {
        "type": "integer",
        "minimum": 1,
        "maximum": MAX_RECORDS,
        "description": f"Number of records at most, {DEFAULT_RECORDS} by default.",
    },
    "offset": {"type": "integer", "minimum": 0, "description": "Number of records to skip."},
    "order": {"type": "string", "description": "Sort order, such as: create_date desc, id"},
}

EMPTY_SCHEMA = {"type": "object", "properties": {}}

SEARCH_SCHEMA = {
    "type": "object",
    "properties": {"model": _MODEL, "domain": _DOMAIN, **_PAGE},
    "required": ["model"],
    "additionalProperties": False,
}

READ_SCHEMA = {
    "type": "object",
    "properties": {
        "model": _MODEL,
        "fields": {
            "type": "array",
            "items": {"type": "string"},
            "minItems": 1,
            "maxItems": 50,
            "description": "Technical names of the fields to read.",
        },
        "ids": {
            "type": "array",
            "items": {"type": "integer", "minimum": 1},
            "maxItems": MAX_RECORDS,
            "description": "Ids of the records to read, instead of or besides a domain.",
        },
        "domain": _DOMAIN,
        **_PAGE,
    },
    "required": ["model", "fields"],
    "additionalProperties": False,
}
