import logging
import threading

import psycopg2

from odoo.tests import BaseCase, TransactionCase, tagged

from ..const import RUNNER_THREADS
from ..runner.runner import Runner
from ..runner.statement_log import StatementFilter, without_values

PROMPT = "what only I should know"
#: A statement with a text, and what is told of it.
STATEMENTS = {
    f"INSERT INTO a VALUES (7, '{PROMPT}')": "INSERT INTO a VALUES (7, '…')",
    f"SELECT E'it\\'s {PROMPT}', 'x'": "SELECT '…', '…'",
    f"SELECT e'it''s \\\\', '{PROMPT}'": "SELECT '…', '…'",
    f"SELECT E'cut off {PROMPT}\\": "SELECT '…'",
    f"SELECT E'cut off {PROMPT}": "SELECT '…'",
    f"SELECT 'it''s {PROMPT}', 1": "SELECT '…', 1",
    f"SELECT '\\', '{PROMPT}'": "SELECT '…', '…'",
    f"SELECT name'\\', '{PROMPT}'": "SELECT name'…', '…'",
    f"SELECT 'multi\nline {PROMPT}'": "SELECT '…'",
    f"SELECT 'cut off {PROMPT}": "SELECT '…'",
    f"SELECT $$it's {PROMPT}$$, $a$it's {PROMPT}$a$, 'x'": "SELECT '…', '…', '…'",
    f"SELECT 1 -- it's one\n, '{PROMPT}'": "SELECT 1 -- it's one\n, '…'",
    f"SELECT 1 -- it's one\r, '{PROMPT}'": "SELECT 1 -- it's one\r, '…'",
    f"SELECT /* it's */ '{PROMPT}'": "SELECT /* it's */ '…'",
    f"SELECT \"it's\", '{PROMPT}'": "SELECT \"it's\", '…'",
    "UPDATE a SET b = %s": "UPDATE a SET b = %s",
}
#: Where prompts, answers, files, keys and tokens are, and what is about them on the way.
TABLES = (
    "llm_provider", "llm_generation_job", "LLM_THREAD", "mail_message", "mail_tracking_value",
    "ir_attachment", "bus_bus", "ir_act_server", "ir_config_parameter", "res_config_settings",
)  # fmt: skip


class RefusedError(Exception):
    """As psycopg2's: it has the class of the error."""

    def __init__(self, text, pgcode):
        super().__init__(text)
        self.pgcode = pgcode


def _told(statement, error="no", message="bad query: %s\nERROR: %s"):
    """Return what is left in the log of a statement that failed."""
    record = logging.LogRecord(
        "odoo.sql_db", logging.ERROR, __file__, 1, message, (statement, error), None
    )
    StatementFilter().filter(record)
    return record.getMessage()


@tagged("post_install", "-at_install")
class TestStatements(BaseCase):
    def test_a_statement_is_told_without_its_texts(self):
        for statement, told in STATEMENTS.items():
            with self.subTest(statement):
                self.assertEqual(without_values(statement), told)

    def test_the_longest_text_is_left_out(self):
        self.assertEqual(without_values("SELECT '" + "x''y" * 5_000_000), "SELECT '…'")

    def test_statements_on_tables_with_texts_are_told_without_them(self):
        for table in TABLES:
            told = _told(f"UPDATE {table} SET x = '{PROMPT}'".encode() + b" -- \xff")
            with self.subTest(table):
                self.assertIn(f"bad query: UPDATE {table} SET x = '…'", told)
                self.assertNotIn(PROMPT, told)

    def test_statements_on_other_tables_are_told_whole(self):
        told = _told(b"UPDATE a SET b = 'llm_thread'", "no a\nLINE 1")
        self.assertEqual(told, "bad query: b\"UPDATE a SET b = 'llm_thread'\"\nERROR: no a\nLINE 1")

    def test_what_a_runner_writes_is_told_without_texts_wherever_it_is(self):
        told = []
        thread = threading.Thread(
            target=lambda: told.append(_told(f"UPDATE crm_lead SET description = '{PROMPT}'")),
            name=Runner("llm_generate_job_test").pollers.name,
        )
        thread.start()
        thread.join()
        self.assertIn("UPDATE crm_lead SET description = '…'", told[0])

    def test_a_statement_of_another_kind_is_told_by_its_kind(self):
        for statement in ([PROMPT], {"mail_message": PROMPT}):
            record = logging.LogRecord("", 40, "", 1, "bad query: %s %s", (statement, 1), None)
            record.threadName = f"{RUNNER_THREADS}db"
            StatementFilter().filter(record)
            self.assertNotIn(PROMPT, record.getMessage())

    def test_a_statement_within_the_message_is_found(self):
        for args in ((), ({"text": PROMPT},)):
            text = "%(text)s" if args else PROMPT
            message = f"bad query: UPDATE mail_message SET body = '{text}'"
            record = logging.LogRecord("", 40, "", 1, message, args, None)
            StatementFilter().filter(record)
            with self.subTest(message):
                self.assertEqual(
                    record.getMessage(), "bad query: UPDATE mail_message SET body = '…'"
                )

    def test_an_error_is_told_without_its_value(self):
        for error, told in {
            f'invalid input syntax for type integer: "{PROMPT}\n{PROMPT}"\nLINE 1': (
                'invalid input syntax for type integer: "…"'
            ),
            f'syntax error at or near "{PROMPT}"': 'syntax error at or near "…"',
            f'null value in column "body"\nDETAIL:  Failing row contains ({PROMPT})': (
                'null value in column "body"'
            ),
            "refused sk-abcdefgh12345678": "refused [hidden]",
        }.items():
            with self.subTest(error):
                self.assertEqual(
                    _told("SELECT FROM llm_thread", error),
                    f"bad query: SELECT FROM llm_thread\nERROR: {told}",
                )

    def test_a_deadlock_tells_who_waits_for_whom(self):
        text = "deadlock detected\nDETAIL:  Process 12 waits for ShareLock"
        self.assertIn(text, _told("SELECT FROM llm_thread", RefusedError(text, "40P01")))
        told = _told("SELECT FROM llm_thread", RefusedError(text, "23505"))
        self.assertNotIn("Process 12", told)

    def test_what_else_is_told_stays_as_it_is(self):
        for message, args in (
            ("Pool of %s: %s", (f"mail_message '{PROMPT}'", 7)),
            ("bad query: none", ()),
            ("ConnectionPool(%(used)s)", ({"used": f"mail_message '{PROMPT}'"},)),
        ):
            record = logging.LogRecord("", 40, "", 1, message, args, None)
            before = record.getMessage()
            with self.subTest(message):
                self.assertTrue(StatementFilter().filter(record))
                self.assertEqual(record.getMessage(), before)


@tagged("post_install", "-at_install")
class TestStatementLog(TransactionCase):
    def _told(self, statement, values):
        """Return what Odoo logs of a statement that PostgreSQL refuses."""
        with (
            self.assertLogs("odoo.sql_db", logging.ERROR) as logs,
            self.assertRaises(psycopg2.Error),
            self.env.cr.savepoint(flush=False),
        ):
            self.env.cr.execute(statement, values)
        return "\n".join(logs.output)

    def test_an_answer_that_could_not_be_stored_is_not_in_the_log(self):
        told = self._told("INSERT INTO mail_message (body) VALUES (%s)", [PROMPT])
        self.assertNotIn(PROMPT, told)
        self.assertIn("INSERT INTO mail_message (body) VALUES ('…')", told)
        self.assertIn("message_type", told)

    def test_the_inputs_of_a_job_are_not_in_the_log(self):
        told = self._told(
            "INSERT INTO llm_generation_job (generation_inputs) VALUES (%s::jsonb)", [PROMPT]
        )
        self.assertNotIn(PROMPT, told)
        self.assertIn("invalid input syntax for type json", told)

    def test_a_key_that_could_not_be_stored_is_not_in_the_log(self):
        told = self._told("UPDATE llm_provider SET api_key = 'key', id = %s", [PROMPT])
        self.assertNotIn(PROMPT, told)
        self.assertNotIn("key'", told)
        self.assertIn("UPDATE llm_provider SET api_key = '…'", told)
