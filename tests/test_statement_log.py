import logging

import psycopg2

from odoo.tests import BaseCase, TransactionCase, tagged

from ..runner.statement_log import StatementFilter, without_values

PROMPT = "what only I should know"
#: A statement with a text, and what is told of it.
STATEMENTS = {
    f"INSERT INTO a VALUES (7, '{PROMPT}')": "INSERT INTO a VALUES (7, '…')",
    f"SELECT E'it\\'s {PROMPT}', 'x'": "SELECT '…', '…'",
    f"SELECT 'it''s {PROMPT}', 1": "SELECT '…', 1",
    f"SELECT '\\', '{PROMPT}'": "SELECT '…', '…'",
    f"SELECT 'multi\nline {PROMPT}'": "SELECT '…'",
    f"SELECT 'cut off {PROMPT}": "SELECT '…'",
    f"SELECT 1 -- it's one\n, '{PROMPT}'": "SELECT 1 -- it's one\n, '…'",
    f"SELECT /* it's */ '{PROMPT}'": "SELECT /* it's */ '…'",
    f"SELECT \"it's\", '{PROMPT}'": "SELECT \"it's\", '…'",
    "UPDATE a SET b = %s": "UPDATE a SET b = %s",
}


def _record(message, *args):
    return logging.LogRecord("odoo.sql_db", logging.ERROR, __file__, 1, message, args, None)


@tagged("post_install", "-at_install")
class TestStatements(BaseCase):
    def test_a_statement_is_told_without_its_texts(self):
        for statement, told in STATEMENTS.items():
            with self.subTest(statement):
                self.assertEqual(without_values(statement), told)

    def test_statements_on_other_tables_are_told_whole(self):
        record = _record("bad query: %s\nERROR: %s", b"UPDATE a SET b = 'c'", "no a\nLINE 1")
        self.assertTrue(StatementFilter().filter(record))
        self.assertEqual(
            record.getMessage(), "bad query: b\"UPDATE a SET b = 'c'\"\nERROR: no a\nLINE 1"
        )

    def test_what_else_is_told_stays_as_it_is(self):
        for message, args in (
            ("%s of %s", (1, "mail_message 'x'")),
            ("bad query: none", ()),
            ("ConnectionPool(%(used)s)", ({"used": "mail_message 'x'"},)),
        ):
            record = _record(message, *args)
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
        told = self._told("UPDATE llm_provider SET api_key = %s, id = 'x'", [PROMPT])
        self.assertNotIn(PROMPT, told)
        self.assertIn("UPDATE llm_provider SET api_key = '…'", told)
