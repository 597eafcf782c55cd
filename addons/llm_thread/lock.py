"""One generation per thread at a time, over all processes."""

import contextlib

import psycopg2

from odoo import sql_db


@contextlib.contextmanager
def advisory_lock(dbname, key):
    """Hold the session-level advisory lock `key`, and yield whether it was got.

    The lock lives on a private connection. A pooled one would keep it after its cursor is closed;
    this one frees it however the process ends. No transaction is open on it.
    """
    _name, info = sql_db.connection_info_for(dbname)
    with contextlib.closing(psycopg2.connect(**info)) as connection:
        connection.autocommit = True
        with connection.cursor() as cr:
            cr.execute("SELECT pg_try_advisory_lock(%s)", [key])
            [locked] = cr.fetchone()
            try:
                yield locked
            finally:
                # Closing alone frees it only once the server has noticed. A lost connection, or a
                # lock that was not got, leaves nothing to free.
                with contextlib.suppress(psycopg2.Error):
                    cr.execute("SELECT pg_advisory_unlock(%s)", [key])
