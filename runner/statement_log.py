"""Keeps what customers write, and keys, out of Odoo's log of statements that failed.

Odoo logs a statement with its values: a connection that is cut while an answer is stored, or two
who change one provider, would put the answer, or the key, into the log.
"""

import logging
import re

from ..const import RUNNER_THREADS
from .untrusted import scrub

LEFT_OUT = "'…'"
#: How Odoo's log begins what it tells of such a statement.
BAD_QUERY = "bad query: "
#: Characters of a statement that are looked at; more is left out.
LONGEST = 1_000_000
#: Tables that hold what must not be told: all of this family's, messages, files, what is on its
#: way to browsers, and where prompts and tokens are set.
_TABLE = re.compile(
    r"\b(?:llm_\w+|mail_\w+|ir_attachment|bus_bus|ir_act_server|ir_config_parameter"
    r"|res_config_settings)\b",
    re.IGNORECASE,
)
#: What may have an apostrophe that begins no text goes first: names and comments. No part can match
#: in two ways, which would take a hundred times the memory of a long text.
_LITERAL = re.compile(
    r"""("[^"]*"|--[^\r\n]*|/\*.*?(?:\*/|\Z))"""
    r"""|\bE'[^'\\]*(?:(?:''|\\.)[^'\\]*)*(?:'|\\?\Z)|'[^']*(?:''[^']*)*(?:'|\Z)"""
    r"""|\$(\w*)\$.*?(?:\$\2\$|\Z)""",
    re.DOTALL | re.IGNORECASE,
)
#: A value within the sentence of an error: `invalid input syntax for type integer: "…"`.
_VALUE = re.compile(r'((?::|at or near) )".*', re.DOTALL)
#: Classes of errors whose details name processes and rows by number, and no value: conflicts and
#: deadlocks, locks, and statements that were cancelled.
_HARMLESS = ("40", "55", "57")


def without_values(statement):
    """Return a statement of SQL without the texts in it; names and numbers stay.

    >>> without_values('''INSERT INTO "mail_message" ("body") VALUES ('It''s me', 7)''')
    'INSERT INTO "mail_message" ("body") VALUES (\\'…\\', 7)'
    """
    return _LITERAL.sub(lambda match: match[1] or LEFT_OUT, statement[:LONGEST])


def _told(statement):
    """Return what may be told of what was to be executed, whatever it is."""
    if isinstance(statement, bytes):
        statement = statement.decode(errors="replace")
    if not isinstance(statement, str):
        return f"({type(statement).__name__})"
    return without_values(statement)


def _sentence(error):
    """Return what may be told of an error: what comes after its first line has the row."""
    text = str(error)
    if str(getattr(error, "pgcode", None)).startswith(_HARMLESS):
        return scrub(text)
    return scrub(_VALUE.sub(r'\1"…"', text.split("\n", 1)[0]))


class StatementFilter(logging.Filter):
    """Takes the texts out of what Odoo says about a statement on one of the tables.

    Statements on other tables are told whole, for whoever has to mend them, unless a runner
    executes them: its answers and tools write to any table. So are all where somebody has all
    statements logged (`--log-sql`).
    """

    def filter(self, record):
        """Keep the record, without texts."""
        if not str(record.msg).startswith(BAD_QUERY):
            return True
        if not isinstance(record.args, tuple) or not record.args:
            record.msg, record.args = f"{BAD_QUERY}%s", (record.getMessage()[len(BAD_QUERY) :],)
        told = _told(record.args[0])
        if _TABLE.search(told) or str(record.threadName).startswith(RUNNER_THREADS):
            record.args = (told, *map(_sentence, record.args[1:]))
        return True
