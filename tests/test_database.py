import psycopg2

from odoo.tests import BaseCase

from ..runner.cursor import is_away


class TestDatabase(BaseCase):
    """What says that the database is not there, and what says that a statement is wrong."""

    def test_who_hung_up_or_gave_up_is_away(self):
        for error in (
            psycopg2.OperationalError("server closed the connection"),
            psycopg2.InterfaceError("connection already closed"),
            psycopg2.DatabaseError("bare"),
            psycopg2.errors.QueryCanceled("statement timeout"),
            psycopg2.errors.InFailedSqlTransaction("current transaction is aborted"),
        ):
            with self.subTest(error=error):
                self.assertTrue(is_away(error))

    def test_a_wrong_statement_is_no_absence(self):
        for error in (
            psycopg2.errors.UniqueViolation("twice"),
            psycopg2.errors.UndefinedColumn("no such column"),
            ValueError("boom"),
        ):
            with self.subTest(error=error):
                self.assertFalse(is_away(error))
