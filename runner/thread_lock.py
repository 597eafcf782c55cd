"""The family's lock on a thread: one answer at a time is written into it.

It is a session-level advisory lock with the thread's id as its key. A session may take the same
lock twice, so this process also remembers what it holds.
"""

import contextlib
import os
import threading

import psycopg2

from .notifier import private_connection

#: Seconds to wait for another thread that uses the connection. Each use takes a moment, but where
#: the database does not answer: then each would wait its turn to wait.
IO_TIMEOUT = 20.0
NO_ANSWER = "The database does not answer."

_sessions = {}
#: Held for no longer than it takes to look what this process holds.
_guard = threading.Lock()


class _Session:
    def __init__(self, dbname):
        self.dbname = dbname
        self.held = set()
        self.connection = None
        self._io = threading.Lock()

    def execute(self, statement, key):
        # A lock that went with its connection is not missed: the fence of the engine still
        # lets only one answer through.
        if not self._io.acquire(timeout=IO_TIMEOUT):
            raise psycopg2.OperationalError(NO_ANSWER)
        try:
            if self.connection is not None and not self.connection.closed:
                with contextlib.suppress(psycopg2.Error):
                    return self._ask(statement, key)
                self.connection.close()  # it died since it was last used
            self.connection = private_connection(self.dbname)
            return self._ask(statement, key)
        finally:
            self._io.release()

    def _ask(self, statement, key):
        with self.connection.cursor() as cursor:
            cursor.execute(statement, [key])
            return cursor.fetchone()[0]


def _session(dbname):
    return _sessions.setdefault((os.getpid(), dbname), _Session(dbname))


def try_lock(dbname, thread_id):
    """Take the lock if it is free, and return whether it was taken."""
    with _guard:
        session = _session(dbname)
        if thread_id in session.held:
            return False
        session.held.add(thread_id)
    taken = False
    try:
        taken = session.execute("SELECT pg_try_advisory_lock(%s)", thread_id)
    finally:
        if not taken:
            session.held.discard(thread_id)
    return taken


def unlock(dbname, thread_id):
    """Release a lock; one that is not held is left alone."""
    with _guard:
        session = _session(dbname)
        is_held = thread_id in session.held
        session.held.discard(thread_id)
    if is_held:
        with contextlib.suppress(psycopg2.Error):
            session.execute("SELECT pg_advisory_unlock(%s)", thread_id)


def is_taken(dbname, thread_id):
    """Return whether anybody holds the lock now."""
    if try_lock(dbname, thread_id):
        unlock(dbname, thread_id)
        return False
    return True


@contextlib.contextmanager
def hold(dbname, thread_id):
    """Yield a function that releases the lock early, None when the lock is taken."""
    if not try_lock(dbname, thread_id):
        yield None
        return
    with contextlib.ExitStack() as held:
        held.callback(unlock, dbname, thread_id)
        yield held.close  # what somebody else has taken since stays theirs
