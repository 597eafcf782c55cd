"""Keeps what customers write, and keys, out of Odoo's log of statements that failed.

Odoo logs a statement with its values: a connection that is cut while an answer is stored, or two
who change one provider, would put the answer, or the key, into the log.
"""

import logging
import re

from .untrusted import scrub

LEFT_OUT = "'…'"
#: How Odoo's log begins what it tells of such a statement.
BAD_QUERY = "bad query: "
#: Tables that hold what must not be told: all of this family's, messages, files, and what is on
#: its way to browsers.
_TABLE = re.compile(r"\b(?:llm_\w+|mail_\w+|ir_attachment|bus_bus)\b")
#: What may have an apostrophe that begins no text goes first: names and comments.
_LITERAL = re.compile(
    r"""("(?:[^"]|"")*"|--[^\n]*|/\*.*?\*/)"""
    r"""|\bE'(?:[^'\\]|''|\\.)*(?:'|\Z)|'(?:[^']|'')*(?:'|\Z)""",
    re.DOTALL | re.IGNORECASE,
)


def without_values(statement):
    """Return a statement of SQL without the texts in it; names and numbers stay.

    >>> without_values('''INSERT INTO "mail_message" ("body") VALUES ('It''s me', 7)''')
    'INSERT INTO "mail_message" ("body") VALUES (\\'…\\', 7)'
    """
    return _LITERAL.sub(lambda match: match[1] or LEFT_OUT, statement)


class StatementFilter(logging.Filter):
    """Takes the texts out of what Odoo says about a statement on one of the tables.

    Statements on other tables are told whole, for whoever has to mend them, and so are all where
    somebody has all statements logged (`--log-sql`).
    """

    def filter(self, record):
        """Keep the record, without texts."""
        if not str(record.msg).startswith(BAD_QUERY):
            return True
        args = record.args if isinstance(record.args, tuple) else ()
        statement = next(iter(args), record.msg)
        if isinstance(statement, bytes):
            statement = statement.decode(errors="replace")
        if _TABLE.search(str(statement)):
            # PostgreSQL tells the row, or the value, in the lines after the first.
            errors = [scrub(str(one).split("\n", 1)[0]) for one in args[1:]]
            record.args = (without_values(str(statement)), *errors) if args else ()
        return True


logging.getLogger("odoo.sql_db").addFilter(StatementFilter())
