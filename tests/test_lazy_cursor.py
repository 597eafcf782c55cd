import contextlib
from types import SimpleNamespace
from unittest.mock import patch

import psycopg2
from psycopg2.pool import PoolError

from odoo import SUPERUSER_ID, api
from odoo.sql_db import db_connect
from odoo.tests import TransactionCase, tagged
from odoo.tools import SQL, mute_logger

from ..runner.cursor import (
    GATE,
    LOCK_TIMEOUT,
    READ_RE,
    SETTINGS,
    EngineCursor,
    InlineCursor,
    LazyCursor,
    bound,
    open_cursor,
)
from ..runner.notifier import private_connection

#: What only its writer should know.
PROMPT = "what only I should know"
LOCK = "SELECT pg_advisory_xact_lock(4711, 42)"

READS = [
    "SELECT 1 WHERE 1 < %(share)s",
    "SELECT 1",
    "  select id FROM res_users WHERE login = 'demo'",
    "\n    WITH a AS (SELECT 1) SELECT * FROM a",
    'SELECT "res_users"."write_date", "updated_at" FROM "res_users"',
    "SELECT count(*) FROM mail_message_share_log",
    'SELECT "res_users"."id", "res_users"."share" FROM "res_users"',
]
WRITES = [
    "UPDATE res_users SET login = 'a'",
    "INSERT INTO res_users DEFAULT VALUES",
    "DELETE FROM res_users",
    "SELECT id FROM res_users FOR UPDATE",
    "SELECT id FROM res_users\n    FOR NO KEY UPDATE SKIP LOCKED",
    "SELECT id FROM res_users FOR SHARE",
    "WITH a AS (DELETE FROM res_users RETURNING id) SELECT * FROM a",
    "SELECT pg_notify('channel', 'payload')",
    "SELECT pg_advisory_xact_lock(1)",
    "SELECT pg_try_advisory_lock(1)",
    "SELECT nextval('some_seq')",
    "SELECT set_config('a.b', 'c', true)",
    "SELECT * INTO a FROM b",
    'SAVEPOINT "x"',
    "SET TRANSACTION READ ONLY",
]


@tagged("post_install", "-at_install")
class TestLazyCursor(TransactionCase):
    def setUp(self):
        super().setUp()
        self.lazy = LazyCursor(self.env.registry)
        self.addCleanup(self.lazy.close)

    @contextlib.contextmanager
    def _other_session(self):
        with contextlib.closing(private_connection(self.env.cr.dbname)) as connection:
            yield connection.cursor()

    def _is_locked(self):
        with self._other_session() as other:
            other.execute("SELECT pg_try_advisory_xact_lock(4711, 42)")
            return not other.fetchone()[0]

    def test_a_statement_that_leaves_nothing_behind_is_a_read(self):
        for statement in READS:
            with self.subTest(statement=statement):
                self.assertTrue(READ_RE.match(statement))

    def test_a_statement_that_leaves_something_behind_is_no_read(self):
        for statement in WRITES:
            with self.subTest(statement=statement):
                self.assertFalse(READ_RE.match(statement))

    def test_a_read_holds_no_transaction(self):
        self.lazy.execute(SQL("SELECT %s, 2", 1))
        self.assertEqual(self.lazy.fetchall(), [(1, 2)])
        self.assertFalse(self.lazy.in_transaction)

    def test_whoever_lets_go_of_a_connection_leaves_the_gate(self):
        through = len(GATE._through)
        self.lazy.execute("SELECT 1")
        self.assertEqual(len(GATE._through), through)
        self.lazy.execute(LOCK)
        self.assertEqual(len(GATE._through), through + 1)
        self.lazy.commit()
        with self.assertRaises(psycopg2.Error), mute_logger("odoo.sql_db"):
            self.lazy.execute("SELECT nobody")
        self.assertEqual(len(GATE._through), through)

    def test_a_write_holds_its_transaction_until_the_commit(self):
        self.lazy.execute(LOCK)
        self.lazy.execute("SELECT 1")
        self.assertTrue(self.lazy.in_transaction)
        self.assertTrue(self._is_locked())

        self.lazy.commit()

        self.assertFalse(self.lazy.in_transaction)
        self.assertFalse(self._is_locked())

    def test_a_rollback_lets_go_and_forgets_what_was_to_follow_the_commit(self):
        ran = []
        self.lazy.execute(LOCK)
        self.lazy.postcommit.add(lambda: ran.append("commit"))
        self.lazy.postrollback.add(lambda: ran.append("rollback"))

        self.lazy.rollback()

        self.assertFalse(self._is_locked())
        self.lazy.commit()
        self.assertEqual(ran, ["rollback"])

    def test_what_follows_the_commit_runs_once(self):
        ran = []
        self.lazy.postcommit.add(lambda: ran.append(1))
        self.lazy.commit()
        self.lazy.commit()
        self.assertEqual(ran, [1])

    def test_several_reads_in_a_row_share_a_connection_when_asked_to(self):
        with self.lazy.hold():
            self.lazy.execute("SELECT pg_backend_pid(), pg_current_snapshot()::text")
            first = self.lazy.fetchone()
            self.lazy.execute("SELECT pg_backend_pid(), pg_current_snapshot()::text")
            self.assertEqual(self.lazy.fetchone()[0], first[0])
            self.assertFalse(self.lazy.in_transaction)
        self.assertIsNone(self.lazy._cursor)

    def test_a_write_while_held_is_not_lost(self):
        with self.lazy.hold():
            self.lazy.execute(LOCK)
        self.assertTrue(self.lazy.in_transaction)
        self.assertTrue(self._is_locked())

    def test_who_goes_on_after_a_commit_keeps_the_connection_and_what_was_read(self):
        env = api.Environment(self.lazy, SUPERUSER_ID, {})
        self.lazy.keeps = True
        self.lazy.execute(LOCK)
        self.lazy.execute("SELECT pg_backend_pid()")
        pid, company = self.lazy.fetchone()[0], env["res.company"].search([], limit=1)
        name = company.name

        self.lazy.commit(goes_on=True)

        self.assertFalse(self.lazy.in_transaction or self._is_locked())
        with self._other_session() as other:
            other.execute("SELECT state FROM pg_stat_activity WHERE pid = %s", [pid])
            self.assertEqual(other.fetchone()[0], "idle")
        with patch.object(LazyCursor, "execute") as execute:
            self.assertEqual(company.name, name)
        execute.assert_not_called()
        self.lazy.execute("SELECT pg_backend_pid()")
        self.assertEqual(self.lazy.fetchone()[0], pid)
        with self.lazy.away():
            self.assertIsNone(self.lazy._cursor)
        self.lazy.execute(LOCK)
        self.lazy.commit()
        self.assertIsNone(self.lazy._cursor)
        self.assertFalse(env.transaction.field_data)

    def test_a_write_after_reads_on_a_connection_that_is_kept_is_found_dead_in_time(self):
        told, execute = [], EngineCursor.execute

        def spy(cr, query, *args, **kwargs):
            told.append(query)
            return execute(cr, query, *args, **kwargs)

        self.lazy.keeps = True
        with patch.object(EngineCursor, "execute", spy):
            self.lazy.execute("SELECT 1")
            self.lazy.execute(LOCK)
        self.assertEqual(told, [SETTINGS, "SELECT 1", LOCK])

    def test_rows_come_in_each_of_the_usual_ways(self):
        self.lazy.execute("SELECT n, n * n AS square FROM generate_series(1, 5) AS n")
        self.assertEqual(self.lazy.rowcount, 5)
        self.assertEqual(self.lazy.fetchone(), (1, 1))
        self.assertEqual(self.lazy.dictfetchone(), {"n": 2, "square": 4})
        self.assertEqual(self.lazy.fetchmany(2), [(3, 9), (4, 16)])
        self.assertEqual(self.lazy.dictfetchall(), [{"n": 5, "square": 25}])
        self.assertIsNone(self.lazy.fetchone())

    def test_a_closed_cursor_refuses_to_work(self):
        self.lazy.close()
        self.assertTrue(self.lazy.closed)
        with self.assertRaisesRegex(RuntimeError, "finished generation"):
            self.lazy.execute("SELECT 1")

    def test_a_patient_one_waits_for_a_database_that_cannot_be_had(self):
        errors = [PoolError(), psycopg2.OperationalError()]

        def refuse(registry):
            if errors:
                raise errors.pop()
            return open_cursor(registry)

        refused = patch("odoo.addons.llm_generate_job.runner.cursor.open_cursor", refuse)
        with refused, patch("time.sleep"):
            with self.assertRaises(psycopg2.OperationalError):
                self.lazy.execute("SELECT 1")
            errors.append(psycopg2.OperationalError())
            self.lazy.is_patient = True
            self.lazy.execute("SELECT 1")
            self.assertEqual((self.lazy.fetchall(), errors), ([(1,)], []))
            with self.assertRaises(psycopg2.errors.UndefinedColumn), mute_logger("odoo.sql_db"):
                self.lazy.execute("SELECT nobody")

    def test_an_error_gives_the_connection_back(self):
        with self.assertLogs("odoo.sql_db", "ERROR"), self.assertRaises(psycopg2.Error):
            self.lazy.execute("SELECT * FROM no_such_table")
        self.assertIsNone(self.lazy._cursor)
        self.lazy.execute("SELECT 1")
        self.assertEqual(self.lazy.fetchone(), (1,))


@tagged("post_install", "-at_install")
class TestFailedStatements(TransactionCase):
    """What the engine logs of a statement that failed has none of its values."""

    def setUp(self):
        super().setUp()
        # That of the registry is a test's here.
        connection = db_connect(self.env.cr.dbname)
        self.registry = SimpleNamespace(cursor=connection.cursor, db_name=self.env.cr.dbname)

    def _cursors(self):
        yield "ordinary", open_cursor(self.registry)
        yield "lazy", LazyCursor(self.registry)
        yield "inline", InlineCursor(self.env.cr)

    def _told(self, execute):
        """Return what is logged, by anybody, of a statement that PostgreSQL refuses."""
        with self.assertLogs(level="INFO") as logs:
            try:  # `assertRaises()` would bring savepoints of its own
                execute()
            except psycopg2.Error:
                return "\n".join(logs.output)
        self.fail("PostgreSQL took it.")
        return ""

    def test_only_the_kind_of_the_error_is_told(self):
        statement = "INSERT INTO mail_message (body) VALUES (%s)"
        for kind, cursor in self._cursors():
            with self.subTest(kind), contextlib.closing(cursor):
                told = self._told(lambda: cursor.execute(statement, [PROMPT]))  # noqa: B023
                self.assertIn("A statement failed: NotNullViolation 23502", told)
                self.assertNotIn(PROMPT, told)
                self.assertNotIn("bad query", told)

    def test_what_the_orm_writes_is_told_no_more(self):
        for kind, cursor in self._cursors():
            with self.subTest(kind), contextlib.closing(cursor):
                env = api.Environment(cursor, SUPERUSER_ID, {})
                parameter = env["ir.config_parameter"].create({"key": PROMPT, "value": PROMPT})
                env.flush_all()
                told = self._told(lambda: self._write_twice(parameter))  # noqa: B023
                self.assertIn("UniqueViolation 23505", told)
                self.assertNotIn(PROMPT, told)

    def _write_twice(self, parameter):
        parameter.create({"key": parameter.key, "value": PROMPT})
        parameter.env.flush_all()

    def test_many_rows_at_once_are_told_no_more(self):
        with contextlib.closing(open_cursor(self.registry)) as cursor:
            self.assertIsInstance(cursor, EngineCursor)
            told = self._told(
                lambda: cursor.execute_values(
                    "INSERT INTO mail_message (body) VALUES %s", [(PROMPT,), (PROMPT,)]
                )
            )
            self.assertIn("NotNullViolation", told)
            self.assertNotIn(PROMPT, told)

    def test_no_statement_of_the_engine_is_compiled(self):
        for kind, cursor in (
            ("lazy", LazyCursor(self.registry)),
            ("bound", open_cursor(self.registry)),
            ("waits", open_cursor(self.registry)),
        ):
            with self.subTest(kind), contextlib.closing(cursor):
                if kind != "lazy":
                    bound(cursor, LOCK_TIMEOUT if kind == "bound" else None)
                for statement in ("SELECT current_setting('jit')", "SHOW jit"):  # read and write
                    cursor.execute(statement)
                    self.assertEqual(cursor.fetchone(), ("off",))

    def test_who_wants_nothing_told_gets_that(self):
        with (
            contextlib.closing(open_cursor(self.registry)) as cursor,
            self.assertNoLogs(level="INFO"),
            self.assertRaises(psycopg2.Error),
        ):
            cursor.execute("SELECT nobody", log_exceptions=False)


@tagged("post_install", "-at_install")
class TestInlineCursor(TransactionCase):
    def _count(self):
        self.env.cr.execute("SELECT count(*) FROM ir_config_parameter WHERE key LIKE 'inline.%'")
        return self.env.cr.fetchone()[0]

    def _insert(self, cr, key):
        cr.execute("INSERT INTO ir_config_parameter (key, value) VALUES (%s, 'x')", [key])

    def test_it_keeps_what_was_committed_and_undoes_the_rest(self):
        with contextlib.closing(InlineCursor(self.env.cr)) as inline:
            self._insert(inline, "inline.kept")
            inline.commit()
            self._insert(inline, "inline.undone")
            self.assertEqual(self._count(), 2)
            self.assertTrue(inline.in_transaction)
        self.assertEqual(self._count(), 1)

    def test_it_leaves_what_the_caller_wrote_alone(self):
        self._insert(self.env.cr, "inline.callers")
        with contextlib.closing(InlineCursor(self.env.cr)) as inline:
            self._insert(inline, "inline.undone")
            inline.rollback()
        self.assertEqual(self._count(), 1)
