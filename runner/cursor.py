"""The engine's cursors. One holds a database connection only while there is something to commit.

A provider's code gets records, and records need a cursor. An ordinary cursor would keep a
connection and a snapshot for as long as the provider takes to answer, and a queue with one
old snapshot open runs at a quarter of its speed. On this one a read borrows a connection for
a moment; from the first write on there is a transaction, until `commit()` or `rollback()`.
"""

import contextlib
import functools
import logging
import os
import re
import selectors
import threading
import time
import weakref
from collections import deque
from datetime import datetime

import psycopg2
from psycopg2.extensions import ISOLATION_LEVEL_READ_COMMITTED
from psycopg2.pool import PoolError

from odoo.sql_db import BaseCursor, Cursor, PsycoConnection, connection_info_for
from odoo.tools import SQL, config

from .limits import PATIENCE
from .notifier import CONNECTION

_logger = logging.getLogger("odoo.sql_db")

#: Odoo's own: what is logged here takes the place of what it would log.
#: A statement that leaves nothing behind. Locks, notifications and functions of the server
#: (`FOR UPDATE`, `pg_notify`, `nextval`, …) need the transaction that follows them; a quoted
#: name (`"res_users"."share"`) and a parameter's (`%(share)s`) do not.
READ_RE = re.compile(
    r"\A\s*(?:SELECT|WITH)\b(?!.*(?<![\w\"])(?<!%\()(?:UPDATE|SHARE|INTO|INSERT|DELETE|MERGE"
    r"|pg_\w*(?:lock|notify)\w*|nextval|setval|set_config)(?![\w\"]))",
    re.IGNORECASE | re.DOTALL,
)

#: A statement that leaves nothing behind on its connection, beyond the transaction.
PLAIN_RE = re.compile(
    r"\A\s*(?:SELECT|WITH|INSERT|UPDATE|DELETE|LOCK|SAVEPOINT|RELEASE|ROLLBACK|SET\s+LOCAL)\b"
    r"(?!.*(?:;|\bset_config\b|\bset_limit\b|\bpg_settings\b|\bTEMP(?:ORARY)?\b|\bpg_temp"
    r"|pg_\w*advisory_lock|\bdblink))",
    re.IGNORECASE | re.DOTALL,
)

#: Of each connection. PostgreSQL takes a look at a long queue for so costly that it compiles it,
#: which lasts a second, each time; the look takes a millisecond. And seconds after which it ends a
#: transaction whose host is gone without a word, and frees its rows: 20, and four times 5.
SETTINGS = (
    "SET jit = off; "
    "SET tcp_keepalives_idle = 20; SET tcp_keepalives_interval = 5; SET tcp_keepalives_count = 4"
)
#: Milliseconds that the engine waits for a row that somebody has locked: it is set aside then, and
#: tried again, while all else goes on. And those that a process which is frozen in the middle of
#: a transaction keeps others from its rows.
BOUNDS = f"{SETTINGS}; SET lock_timeout = %s; SET idle_in_transaction_session_timeout = 60000"
#: Milliseconds, and those where there is no more time: many answers may have to be stored then;
#: and those for what others do once, in a moment, and nothing goes on without.
LOCK_TIMEOUT, LAST_LOCK_TIMEOUT, LONG_LOCK_TIMEOUT = 300, 30, 10_000


class Gate:
    """How many connections lazy cursors take at once.

    As many calls as ever may end at the same moment, and a server has few connections. Who is
    through for longer than `PATIENCE` seconds waits for somebody's row, and counts no more.
    """

    PATIENCE = 1.0

    def __init__(self, size):
        self.size = size
        self._through = []
        self._changed = threading.Condition()

    def enter(self):
        """Wait for a place, and return what leaves it."""
        with self._changed:
            while len(self._through) >= self.size:
                left = self._through[0] + self.PATIENCE - time.monotonic()
                if left <= 0:
                    self._through.pop(0)
                else:
                    self._changed.wait(left)
            self._through.append(time.monotonic())
            return self._through[-1]

    def leave(self, entered):
        """Give back a place."""
        with self._changed:
            if entered in self._through:
                self._through.remove(entered)
                self._changed.notify()


GATE = Gate(max(1, config["db_maxconn"] // 4))

USED_AFTER_CLOSE = "The cursor of a finished generation was used again."


def _execute(execute, query, params, log_exceptions):
    """Execute a statement; of one that failed only what kind of error it was is logged.

    Odoo logs it with its values, which are answers, prompts and keys.
    """
    try:
        execute(query, params, log_exceptions=False)
    except psycopg2.Error as error:
        if log_exceptions and not is_locked(error):  # which is nobody's mistake
            told = (type(error).__name__, error.pgcode)
            _logger.error("A statement failed: %s %s", *told)  # noqa: TRY400 the rest has values
        raise


@functools.lru_cache(maxsize=512)  # the same few come again, and a look at a long one lasts
def _kind(code):
    """Return whether a statement is a read, and whether it leaves nothing on its connection."""
    return bool(READ_RE.match(code)), bool(PLAIN_RE.match(code))


def _kind_of(query):
    # Bytes have their values in them, and are judged by no pattern.
    code = query.code if isinstance(query, SQL) else query
    return _kind(code) if isinstance(code, str) else (False, False)


#: How many bounds a connection may be made for: the pool keeps one of each at least.
KINDS = 4
TOO_MANY = "The engine has as many connections as it may have: somebody holds a lock for long."


class Session(PsycoConnection):
    """A connection of the engine, and what its pool has to know of it."""

    #: What it was made for, see `Sessions.borrow()`.
    wanted = None
    #: Whether its next user finds it as it was made.
    is_plain = True
    #: When it was given back.
    left_at = 0.0


class Sessions:
    """The connections of the engine that nobody uses just now: a pool, to Odoo's cursors.

    Odoo's own has the server forget all settings of a connection before it lends it, while all
    who want another one wait for that. Here each has its settings from its beginning, and goes on
    to the next user as it is; what is not as it was made any more is closed. Nobody waits here: how
    many lazy cursors there are at once is for `GATE` to say, which lets more through where many
    wait for somebody's lock. Whoever would be one too many is refused then, and comes again.
    """

    #: Asked for by Odoo's cursors.
    readonly = False
    #: Seconds after which one that nobody used is closed, when another is given back.
    IDLE_TIMEOUT = 60.0

    def __init__(self, size, most):
        """Make a pool.

        :param int size: how many it keeps that nobody uses
        :param int most: how many there are at once, those in use included
        """
        self._size, self._most = size, most
        self._lock = threading.RLock()  # what is freed while it is held may give one back
        self._idle, self._lent = [], weakref.WeakSet()

    def borrow(self, wanted):
        """Return a connection.

        :param dict wanted: how to connect, and the `lock_timeout` of `open_cursor()`
        :raise PoolError: where there are as many as there may be
        """
        while session := self._take(wanted):
            if not session.closed and not _has_word(session):
                break
            session.close()
        else:
            self._make_room()
            session = self._connect(**wanted)
            session.wanted = wanted
        self._lent.add(session)
        return session

    def _make_room(self):
        with self._lock:
            if len(self._lent) + len(self._idle) < self._most:
                return
            if not self._idle:
                raise PoolError(TOO_MANY)
            oldest = self._idle.pop(0)
        oldest.close()

    def _take(self, wanted):
        with self._lock:  # the last first: what is not needed gets old
            for session in reversed(self._idle):
                if session.wanted == wanted:
                    self._idle.remove(session)
                    return session
        return None

    def _connect(self, *, lock_timeout, **info):
        session = psycopg2.connect(connection_factory=Session, **CONNECTION, **info)
        session.autocommit = True  # a setting goes with a transaction that is rolled back
        with session.cursor() as cursor:
            cursor.execute(*((BOUNDS, [lock_timeout]) if lock_timeout else (SETTINGS,)))
        return session

    def give_back(self, session, keep_in_pool=True):
        """Keep a connection for the next user, or close it."""
        self._lent.discard(session)
        if not (keep_in_pool and session.is_plain):
            session.close()
        elif not session.closed:
            session.left_at = time.monotonic()
            with self._lock:
                self._idle.append(session)
        self.close()

    def close(self, dbname=None):
        """Close what is not needed any more, and what there is of a database."""
        oldest = time.monotonic() - self.IDLE_TIMEOUT
        with self._lock:
            kept = self._idle[-self._size :]
            kept = [
                one for one in kept if one.left_at > oldest and one.wanted.get("database") != dbname
            ]
            closed, self._idle = set(self._idle) - set(kept), kept
        for session in closed:
            session.close()


def _has_word(session):
    """Return whether the server has said something unasked, as it does where it hangs up."""
    with selectors.DefaultSelector() as selector:
        selector.register(session, selectors.EVENT_READ)
        return bool(selector.select(0))


#: By process: after a fork, the connections of the parent are neither used nor closed.
_sessions = {}


def sessions():
    """Return the engine's connections in this process."""
    size = max(GATE.size, KINDS)
    made = _sessions.get(os.getpid()) or Sessions(size, 2 * size)
    return _sessions.setdefault(os.getpid(), made)


class EngineCursor(Cursor):
    """A READ COMMITTED transaction on a connection of the engine's own.

    Odoo's cursors take their snapshot with the first statement, before that statement waits for a
    lock: what was locked is then judged by how it was before the wait. And it keeps to itself what
    a statement was about that failed: all goes through its `execute()`, what the ORM flushes, and
    many rows at once.
    """

    #: See `SavepointCursor`.
    sets_aside = True

    def __init__(self, dbname, lock_timeout):
        """Open a transaction; see `open_cursor()`."""
        wanted = connection_info_for(dbname)[1] | {"lock_timeout": lock_timeout}
        super().__init__(sessions(), dbname, wanted)
        self._cnx.set_isolation_level(ISOLATION_LEVEL_READ_COMMITTED)
        self._cnx.is_plain = True  # Odoo's had it to set the level

    def execute(self, query, params=None, log_exceptions=True):
        """Execute a statement within the transaction."""
        self._cnx.is_plain &= _kind_of(query)[1]
        return _execute(super().execute, query, params, log_exceptions)

    @property
    def connection(self):
        """The connection, with which anything may be done: nobody else gets it any more."""
        connection = self._obj.connection  # none of one that is closed
        connection.is_plain = False
        return connection


def open_cursor(registry, lock_timeout=None):
    """Return a new cursor for the engine; a test's stays what it is.

    :param lock_timeout: milliseconds to wait for a lock, and not to be waited for for long either;
        None to wait as long as it takes
    """
    if "cursor" in vars(registry):  # in a test, which has another one in its place
        return registry.cursor()
    return EngineCursor(registry.db_name, lock_timeout)


def is_locked(error):
    """Return whether an error means that somebody has locked what was to be changed."""
    return isinstance(error, psycopg2.errors.LockNotAvailable)


class SavepointCursor(BaseCursor):
    """Knows of the savepoints that are open on it: a commit takes them from who made them."""

    def __init__(self):
        super().__init__()
        self._savepoints = []
        self.closed = False

    def savepoint(self, flush=True):
        """Return a savepoint, see `BaseCursor`."""
        made = super().savepoint(flush)
        self._savepoints = [one for one in self._savepoints if not one.closed] + [made]
        return made

    #: Whether what meets a locked row is tried again by whoever has this cursor.
    sets_aside = False

    def bind(self, lock_timeout=LOCK_TIMEOUT):
        """Have no transaction that is open, or opened from now on, wait for long, or be waited for.

        :param lock_timeout: milliseconds
        """

    @property
    def in_savepoint(self):
        """Whether the code that uses the cursor has a savepoint to come back to."""
        return any(not one.closed for one in self._savepoints)

    @contextlib.contextmanager
    def away(self):
        """Hold nothing that can be had again while somebody else is waited for."""
        yield


class LazyCursor(SavepointCursor):
    """Reads at once and forgets, writes in a READ COMMITTED transaction."""

    #: From the first write on there is a transaction.
    readonly = False

    def __init__(self, registry):
        super().__init__()
        self.dbname = registry.db_name
        self._registry = registry
        self._cursor = None
        self._rows = deque()
        #: How many rows the last statement returned or changed, and the columns of its result.
        self.rowcount, self.description = -1, None
        self._held = False
        self._entered = None
        self._lock_timeout = None
        #: Whether to wait for a database that cannot be had, where nothing is lost by that.
        self.is_patient = False
        #: Whether a read keeps its connection for the next one, until `away()` or the end.
        self.keeps = False

    # === CONNECTION === #

    def _open(self):
        self._entered = GATE.enter()
        try:
            return open_cursor(self._registry, self._lock_timeout)
        except BaseException:
            self._leave_gate()
            raise

    def _shut(self, cursor):
        try:
            cursor.close()
        finally:
            self._leave_gate()

    def _leave_gate(self):
        if self._entered is not None:
            GATE.leave(self._entered)
            self._entered = None

    def bind(self, lock_timeout=LOCK_TIMEOUT):
        """See `SavepointCursor`."""
        self._lock_timeout = lock_timeout
        if self._held:
            self._release()
        if isinstance(self._cursor, EngineCursor):
            self._cursor.execute(BOUNDS, [lock_timeout])

    @contextlib.contextmanager
    def hold(self):
        """Keep one connection for several reads in a row."""
        keeps, self.keeps = self.keeps, True
        try:
            yield self
        finally:
            self.keeps = keeps
            if self._held and not keeps:
                self._release()

    @contextlib.contextmanager
    def away(self):
        """Hold no connection for reads while somebody else is waited for."""
        keeps, self.keeps = self.keeps, False
        if self._held:
            self._release()
        try:
            yield
        finally:
            self.keeps = keeps

    def _release(self):
        cursor, self._cursor, self._held = self._cursor, None, False
        if cursor is not None:
            self._shut(cursor)

    @property
    def in_transaction(self):
        """Whether something was written that is neither committed nor rolled back."""
        return self._cursor is not None and not self._held

    # === STATEMENTS === #

    def execute(self, query, params=None, log_exceptions=True):
        """Execute a statement. See the class about transactions."""
        if self.closed:
            raise RuntimeError(USED_AFTER_CLOSE)
        reading = _kind_of(query)[0]
        if not reading:
            self._held = False
        if self._cursor is not None:
            self._cursor.execute(query, params, log_exceptions)
            self._fetch_state()
            return
        for pause in (*(PATIENCE if self.is_patient else ()), None):
            try:
                self._begin(reading, query, params, log_exceptions)
                return
            except psycopg2.Error as error:
                if pause is None or not is_away(error):
                    raise
                _logger.info("The database cannot be had (%s): waiting", type(error).__name__)
            time.sleep(pause)

    def _begin(self, reading, query, params, log_exceptions):
        """Execute the first statement of a transaction, or one that needs none."""
        cursor = self._open()
        try:
            cursor.execute(query, params, log_exceptions)
            if not reading or self.keeps:
                self._held = reading
                self._cursor, cursor = cursor, None
            self._fetch_state(cursor)
        finally:
            if cursor is not None:
                self._shut(cursor)

    def _fetch_state(self, cursor=None):
        cursor = cursor or self._cursor
        self.rowcount, self.description = cursor.rowcount, cursor.description
        self._rows = deque(cursor.fetchall() if cursor.description else ())

    def execute_values(self, query, argslist, template=None, page_size=100, fetch=False):
        """Execute a statement over many rows; always a write."""
        self.execute(f'SAVEPOINT "{id(self)}"')
        rows = self._cursor.execute_values(query, argslist, template, page_size, fetch)
        self._cursor.execute(f'RELEASE SAVEPOINT "{id(self)}"')
        return rows

    def mogrify(self, query, params=None):
        """Return the statement as it is sent to the server."""
        if self._cursor is not None:
            return self._cursor.mogrify(query, params)
        cursor = self._open()
        try:
            return cursor.mogrify(query, params)
        finally:
            self._shut(cursor)

    # === RESULTS === #

    def fetchone(self):
        """Return the next row, None after the last."""
        return self._rows.popleft() if self._rows else None

    def fetchmany(self, size=1):
        """Return at most `size` further rows."""
        return [self._rows.popleft() for _ in range(min(size, len(self._rows)))]

    def fetchall(self):
        """Return the rows that are left."""
        return self.fetchmany(len(self._rows))

    def dictfetchone(self):
        """Return the next row as a dict, None after the last."""
        row = self.fetchone()
        return row and {
            column.name: value for column, value in zip(self.description, row, strict=True)
        }

    # === TRANSACTION === #

    def commit(self, *, goes_on=False):
        """Commit what was written, and let go of the connection.

        :param bool goes_on: whether to stay with what was read, and with the connection of who
            `keeps` one: more is written at once, and no other one's work has to be seen for that
        """
        self.flush()
        if self._cursor is not None:
            self._cursor.commit()
        self._savepoints.clear()
        if goes_on and self.keeps:
            self._held = self._cursor is not None
        else:
            self._release()
        if not goes_on:
            self.clear()
        self._now = None
        self.prerollback.clear()
        self.postrollback.clear()
        self.postcommit.run()

    def rollback(self):
        """Undo what was written, and let go of the connection."""
        self.clear()
        self.postcommit.clear()
        self.prerollback.run()
        self._savepoints.clear()
        self._release()
        self._now = None
        self.postrollback.run()

    def close(self):
        """Undo what was not committed. The cursor cannot be used afterwards."""
        if not self.closed:
            self.rollback()
            self.cache.clear()
            self.closed = True

    @property
    def connection(self):
        """The connection of the open transaction; opens one if need be."""
        if self._cursor is None:
            self._cursor = self._open()
        self._held = False
        return self._cursor.connection


@contextlib.contextmanager
def lend_lazy(request):
    """Have an HTTP request go on without a connection while somebody else is waited for.

    What it wrote before is committed, the rest at the end. One that fails is not tried again by
    Odoo, which leaves alone what is closed.

    :param request: Odoo's; its environment gets another cursor
    """
    request.env.cr.commit()  # pylint: disable=invalid-commit
    request.env.cr.close()
    cr = LazyCursor(request.env.registry)
    request.env = request.env(cr=cr)
    try:
        yield
        cr.commit()  # pylint: disable=invalid-commit
    except BaseException:
        cr.rollback()
        raise


def let_go(cr):
    """Commit what was written on a lazy cursor, as somebody else is waited for now.

    An ordinary cursor is its caller's, and stays as it is.
    """
    if isinstance(cr, LazyCursor):
        cr.commit(goes_on=True)  # pylint: disable=invalid-commit


class InlineCursor(SavepointCursor):
    """A transaction within the caller's: commits to a savepoint, as the cursors of tests do."""

    def __init__(self, cursor):
        super().__init__()
        self.dbname = cursor.dbname
        self._cursor = cursor
        self._savepoint = None

    def execute(self, query, params=None, log_exceptions=True):
        """Execute a statement of the caller's cursor."""
        if self._savepoint is None:
            self._savepoint = self._cursor.savepoint(flush=False)
        _execute(self._cursor.execute, query, params, log_exceptions)

    def _end(self, *, rollback):
        self._savepoints.clear()
        savepoint, self._savepoint = self._savepoint, None
        if savepoint is not None:
            savepoint.close(rollback=rollback)

    def now(self):
        """Return the time, not that at which the caller's transaction began."""
        return datetime.now()

    def commit(self, *, goes_on=False):
        """Keep what was written, as far as the caller commits; see `LazyCursor`."""
        self.flush()
        self._end(rollback=False)
        if not goes_on:
            self.clear()
        self.postcommit.clear()

    def rollback(self):
        """Undo what was written since the last commit."""
        self.clear()
        self.postcommit.clear()
        self._end(rollback=True)

    def close(self):
        """Undo what was not committed."""
        if not self.closed:
            self.rollback()
            self.closed = True

    @property
    def in_transaction(self):
        """Whether something was done that is neither committed nor rolled back."""
        return self._savepoint is not None

    def dictfetchone(self):
        """Return the next row as a dict, None after the last."""
        return self._cursor.dictfetchone()

    def __getattr__(self, name):
        return getattr(self._cursor, name)


# === IS THE DATABASE AWAY ===

AWAY = (
    psycopg2.OperationalError,
    psycopg2.InterfaceError,
    PoolError,
    # A statement was cancelled, and whoever tidied up after it tried one more.
    psycopg2.errors.InFailedSqlTransaction,
    # It became, or has not ceased to be, the copy of another one.
    psycopg2.errors.ReadOnlySqlTransaction,
)


def is_away(error):
    """Return whether an error means that the database cannot be reached, or hung up."""
    # A connection that died while it lay in the pool says so with the bare base class. A copy that
    # is asked for a transaction that may write, as Odoo does, calls that a missing feature.
    return (
        isinstance(error, AWAY)
        or type(error) is psycopg2.DatabaseError
        or (isinstance(error, psycopg2.errors.FeatureNotSupported) and "recovery" in str(error))
    )
