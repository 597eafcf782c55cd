"""One generation per thread at a time, over all processes."""

import contextlib
import os

import psycopg2

from odoo import sql_db

#: The connection that waits for the next lock, one at most for each process and database.
_kept = {}


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
    if kept := _kept.pop((os.getpid(), dbname), None):
        try:
            return kept, _ask(kept, statement, key)
        except psycopg2.Error:  # it was lost while it waited
            kept.close()
    _name, info = sql_db.connection_info_for(dbname)
    connection = psycopg2.connect(**info)
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
    kept = _kept.setdefault((os.getpid(), dbname), connection)
    return None if kept is connection else connection
