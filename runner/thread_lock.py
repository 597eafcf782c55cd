"""The family's lock on a thread: one answer at a time is written into it.

It is a session-level advisory lock with the thread's id as its key. A session may take the same
lock twice, so this process also remembers what it holds.
"""

import contextlib
import os
import threading

import psycopg2

from .notifier import private_connection

_sessions = {}
_guard = threading.Lock()


class _Session:
    def __init__(self, dbname):
        self.dbname = dbname
        self.held = set()
        self.connection = None

    def execute(self, statement, key):
        # A lock that went with its connection is not missed: the fence of the engine still
        # lets only one answer through.
        if self.connection is not None and not self.connection.closed:
            with contextlib.suppress(psycopg2.Error):
                return self._ask(statement, key)
            self.connection.close()  # it died since it was last used
        self.connection = private_connection(self.dbname)
        return self._ask(statement, key)

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
        if session.execute("SELECT pg_try_advisory_lock(%s)", thread_id):
            session.held.add(thread_id)
            return True
        return False


def unlock(dbname, thread_id):
    """Release a lock; one that is not held is left alone."""
    with _guard:
        session = _session(dbname)
        if thread_id in session.held:
            session.held.discard(thread_id)
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
    try:
        yield lambda: unlock(dbname, thread_id)
    finally:
        unlock(dbname, thread_id)
