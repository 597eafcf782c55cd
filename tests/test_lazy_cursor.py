import contextlib
import os
import time
from types import SimpleNamespace
from unittest.mock import patch

import psycopg2
import psycopg2.sql
from psycopg2.pool import PoolError

from odoo import SUPERUSER_ID, api
from odoo.service import db as database_service
from odoo.tests import TransactionCase, tagged
from odoo.tools import SQL, mute_logger

from ..runner.cursor import (
    GATE,
    LOCK_TIMEOUT,
    PLAIN_RE,
    READ_RE,
    EngineCursor,
    InlineCursor,
    LazyCursor,
    Sessions,
    _sessions,
    open_cursor,
    sessions,
)
from ..runner.notifier import CONNECTION, private_connection

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
        self.lazy.keeps = True
        self.lazy.execute("SELECT 1")
        self.lazy.execute(LOCK)
        self.lazy.execute(
            "SELECT count(*) FROM pg_settings WHERE source = 'session' AND name LIKE 'tcp_keep%'"
        )
        self.assertEqual(self.lazy.fetchone(), (3,))

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

        def refuse(*args):
            if errors:
                raise errors.pop()
            return open_cursor(*args)

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
class TestSessions(TransactionCase):
    """What the engine's cursors leave to the next, and what not."""

    def setUp(self):
        super().setUp()
        self.enterContext(patch.dict(_sessions, clear=True))
        self.dbname = self.env.cr.dbname
        self.addCleanup(sessions().close, self.dbname)
        self.other = private_connection(self.dbname)
        self.addCleanup(self.other.close)

    def _ask(self, statement, *params):
        with self.other.cursor() as cursor:
            cursor.execute(statement, params)
            return cursor.fetchone()

    def _activity(self, pid):
        return self._ask("SELECT query, state_change FROM pg_stat_activity WHERE pid = %s", pid)

    def _pid(self, statement=LOCK, lock_timeout=None):
        """Execute a statement on a cursor of its own, and return the process of its server."""
        with contextlib.closing(open_cursor(self.registry, lock_timeout)) as cursor:
            pid = cursor._cnx.get_backend_pid()
            cursor.execute(statement)
            cursor.commit()
        return pid

    def test_a_connection_is_gone_on_with_as_it_is_and_without_a_word(self):
        pid = self._pid()
        before = self._activity(pid)
        with contextlib.closing(open_cursor(self.registry)) as cursor:
            self.assertEqual(cursor._cnx.get_backend_pid(), pid)
            self.assertEqual(self._activity(pid), before)
            self.assertFalse(cursor._cnx.autocommit)
        self.assertEqual(self._activity(pid), before)

    def test_settings_outlast_each_end_of_a_transaction(self):
        settings = {
            "jit": "off",
            "transaction_isolation": "read committed",
            "lock_timeout": "300ms",
        }
        for end in ("rollback", "commit", "rollback"):
            with (
                self.subTest(end),
                contextlib.closing(open_cursor(self.registry, LOCK_TIMEOUT)) as cursor,
            ):
                for setting, value in settings.items():
                    cursor.execute(f"SHOW {setting}")
                    self.assertEqual(cursor.fetchone(), (value,))
                cursor._cnx.is_plain = True
                getattr(cursor, end)()

    def test_who_waits_for_locks_gets_no_connection_of_who_does_not(self):
        pid = self._pid()
        self.assertNotEqual(self._pid(lock_timeout=LOCK_TIMEOUT), pid)
        self.assertEqual(self._pid(), pid)

    def test_a_connection_has_one_user_at_a_time(self):
        self._pid()
        with (
            contextlib.closing(open_cursor(self.registry)) as one,
            contextlib.closing(open_cursor(self.registry)) as another,
        ):
            self.assertIsNot(one._cnx, another._cnx)

    def test_a_connection_that_died_is_not_gone_on_with(self):
        pid = self._pid()
        self._ask("SELECT pg_terminate_backend(%s, 5000)", pid)
        self.assertNotEqual(self._pid(), pid)

    def test_what_is_not_as_it_was_made_is_closed(self):
        for statement in (
            "SET search_path = public",
            "SELECT set_config('my.own', 'x', false)",
            "CREATE TEMP TABLE mine (id int)",
            "SELECT 1 AS id INTO TEMP mine",
            "SELECT 1 AS id INTO pg_temp.mine",
            "SELECT pg_advisory_lock(4711)",
            "SELECT pg_try_advisory_lock_shared(4711)",
            "LISTEN somebody",
            "PREPARE mine AS SELECT 1",
            "/* mine */ SET search_path = public",
            "SELECT 1; SET search_path = public",
            SQL("SET search_path = public"),
            b"SET search_path = public",
            psycopg2.sql.SQL("SET search_path = {}").format(psycopg2.sql.Identifier("public")),
            "RESET ALL",
        ):
            with self.subTest(statement):
                pid = self._pid(statement)
                self.assertNotEqual(self._pid(), pid)
                sessions().close(self.dbname)

    def test_a_statement_that_leaves_nothing_is_plain(self):
        for statement in [*READS, *WRITES[:10], LOCK, 'SAVEPOINT "x"', "SET LOCAL jit = on"]:
            with self.subTest(statement):
                is_plain = "pg_try_advisory_lock" not in statement
                self.assertEqual(bool(PLAIN_RE.match(statement)), is_plain)

    def test_who_takes_the_connection_itself_leaves_it_to_nobody(self):
        with contextlib.closing(open_cursor(self.registry)) as cursor:
            pid = cursor.connection.get_backend_pid()
        self.assertNotEqual(self._pid(), pid)
        with self.assertRaises(psycopg2.InterfaceError):
            cursor.connection  # noqa: B018

    def test_a_lazy_cursor_that_is_bound_meanwhile_leaves_its_bounds_to_nobody(self):
        with contextlib.closing(LazyCursor(self.registry)) as lazy:
            lazy.execute(LOCK)
            lazy.bind()
            lazy.execute("SELECT pg_backend_pid(), current_setting('lock_timeout')")
            pid, bounds = lazy.fetchone()
            lazy.commit()
            self.assertEqual(bounds, "300ms")
            self.assertNotEqual(self._pid(), pid)
            lazy.keeps, lazy._lock_timeout = True, None
            lazy.execute("SELECT pg_backend_pid()")
            [pid] = lazy.fetchone()
            lazy.bind()
            lazy.execute("SHOW lock_timeout")
            self.assertEqual(lazy.fetchone(), ("300ms",))
        self.assertEqual(self._pid(), pid)

    def test_a_test_gets_no_connection_of_the_engine(self):
        self._pid()
        self.env.cr.execute("SELECT pg_backend_pid()")
        [own] = self.env.cr.fetchone()
        with (
            self.enter_registry_test_mode(),
            contextlib.closing(open_cursor(self.registry)) as cursor,
        ):
            cursor.execute("SELECT pg_backend_pid()")
            self.assertEqual(cursor.fetchone(), (own,))

    def test_few_are_kept(self):
        _sessions[os.getpid()] = Sessions(2, 9)
        cursors = [open_cursor(self.registry) for _each in range(4)]
        pids = [cursor._cnx.get_backend_pid() for cursor in cursors]
        for cursor in cursors:
            cursor.close()
        self.assertEqual([self._alive(pid) for pid in pids], [False, False, True, True])

    def test_there_are_only_so_many_at_once(self):
        _sessions[os.getpid()] = Sessions(2, 3)
        pid = self._pid(lock_timeout=LOCK_TIMEOUT)  # another kind, which makes room
        with contextlib.ExitStack() as stack:
            for _each in range(3):
                stack.enter_context(contextlib.closing(open_cursor(self.registry)))
            self.assertFalse(self._alive(pid))
            with self.assertRaises(PoolError):
                open_cursor(self.registry)
        self._pid()
        cursors = [open_cursor(self.registry) for _each in range(3)]
        del cursors  # what is freed without a word counts no more
        self._pid()

    def test_the_kernel_says_when_the_host_of_one_is_gone(self):
        with contextlib.closing(open_cursor(self.registry)) as cursor:
            for connection in (cursor._cnx, self.other):
                told = connection.get_dsn_parameters()
                self.assertEqual(told, told | {key: str(CONNECTION[key]) for key in CONNECTION})

    def _alive(self, pid):
        """Return whether a server's process is there, which takes a moment to end."""
        for _each in range(20):
            if not self._activity(pid):
                return False
            time.sleep(0.01)
        return True

    def test_what_nobody_used_for_long_is_closed(self):
        pid = self._pid()
        other = self._pid(lock_timeout=LOCK_TIMEOUT)
        sessions()._idle[0].left_at -= Sessions.IDLE_TIMEOUT
        self.assertEqual(self._pid(lock_timeout=LOCK_TIMEOUT), other)
        self.assertFalse(self._alive(pid))
        self.assertTrue(self._alive(other))

    def test_a_forked_process_leaves_those_of_its_parent_alone(self):
        pid = self._pid()
        with patch("os.getpid", return_value=-1):
            self.assertNotEqual(self._pid(), pid)
            sessions().close(self.dbname)
        self.assertEqual(self._pid(), pid)

    def test_a_database_is_dropped_that_has_idle_connections(self):
        name = f"{self.dbname}_idle"
        with contextlib.closing(private_connection("postgres")) as postgres:
            postgres.cursor().execute(f'CREATE DATABASE "{name}" TEMPLATE template0')
        with contextlib.closing(EngineCursor(name, None)) as cursor:
            cursor.execute("SELECT 1")
        mine = self._pid()
        with patch.object(database_service, "list_dbs", return_value=[name]):
            self.assertTrue(database_service.exp_drop(name))
        with self.assertRaises(psycopg2.OperationalError), mute_logger("odoo.sql_db"):
            EngineCursor(name, None)
        self.assertEqual(self._pid(), mine)


@tagged("post_install", "-at_install")
class TestFailedStatements(TransactionCase):
    """What the engine logs of a statement that failed has none of its values."""

    def setUp(self):
        super().setUp()
        # That of the registry is a test's here.
        self.registry = SimpleNamespace(db_name=self.env.cr.dbname)

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
            ("bound", open_cursor(self.registry, LOCK_TIMEOUT)),
            ("waits", open_cursor(self.registry)),
        ):
            with self.subTest(kind), contextlib.closing(cursor):
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
