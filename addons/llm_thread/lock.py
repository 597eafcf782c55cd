"""One generation per thread at a time, over all processes."""

import contextlib
import os

import psycopg2

from odoo import sql_db

#: The connection that waits for the next lock, by process: one at most, with its database.
_kept = {}
#: Settings of a connection: seconds after which one whose other side is gone without a word fails.
KEEPALIVE = {"keepalives_idle": 20, "keepalives_interval": 5, "keepalives_count": 4}


@contextlib.contextmanager
def advisory_lock(dbname, key):
    """Hold the session-level advisory lock `key`, and yield whether it was got.

    The lock lives on a private connection. A pooled one would keep it after its cursor is closed;
    this one frees it however the process ends. No transaction is open on it.
    """
    connection, locked = _take(dbname, key)
    try:
        yield locked
    finally:
        # Closing alone frees it only once the server has noticed. A lost connection, or a lock that
        # was not got, leaves nothing to free.
        with contextlib.suppress(psycopg2.Error):
            if not locked or _ask(connection, "SELECT pg_advisory_unlock(%s)", key):
                connection = _keep(dbname, connection)
        if connection is not None:
            connection.close()


def _take(dbname, key):
    """Return a connection, and whether the lock was got on it."""
    statement = "SELECT pg_try_advisory_lock(%s)"
    known, kept = _kept.pop(os.getpid(), (None, None))
    if known == dbname:
        with contextlib.suppress(psycopg2.Error):  # it was lost while it waited
            return kept, _ask(kept, statement, key)
    if kept:
        kept.close()
    _name, info = sql_db.connection_info_for(dbname)
    connection = psycopg2.connect(**{**info, **KEEPALIVE, "tcp_user_timeout": 15_000})
    try:
        connection.autocommit = True
        return connection, _ask(connection, statement, key)
    except BaseException:
        connection.close()
        raise


def _ask(connection, statement, key):
    with connection.cursor() as cr:
        cr.execute(statement, [key])
        return cr.fetchone()[0]


def _keep(dbname, connection):
    """Keep a connection on which nothing is locked for the next lock; return it where one is."""
    _dbname, kept = _kept.setdefault(os.getpid(), (dbname, connection))
    return None if kept is connection else connection
