"""Wait for notifications of PostgreSQL, with a deadline."""

import contextlib
import os
import selectors
import threading

import psycopg2
from psycopg2 import sql

from odoo import sql_db


def private_connection(dbname):
    """Return a connection in autocommit mode that is not taken from Odoo's pool.

    A pooled connection forgets LISTEN and session locks when the next user borrows it.
    """
    connection = psycopg2.connect(**sql_db.connection_info_for(dbname)[1])
    connection.set_session(autocommit=True)
    return connection


class Listener:
    """Hears the notifications of one channel from the moment it is made.

    Make it before looking at what is waited for, or a notification is lost in between.
    """

    def __init__(self, dbname, channel):
        self.connection = private_connection(dbname)
        self._lock = threading.Lock()
        self._pipe = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        # Not `select()`: a process with many connections has descriptors beyond what it takes.
        self._selector = selectors.DefaultSelector()
        for source in (self.connection, self._pipe[0]):
            self._selector.register(source, selectors.EVENT_READ)
        with self.connection.cursor() as cursor:
            cursor.execute(sql.SQL("LISTEN {}").format(sql.Identifier(channel)))

    def wait(self, timeout):
        """Return the payloads that came, after at most `timeout` seconds.

        :raise psycopg2.OperationalError: when the server went away
        """
        if not self.connection.notifies:
            ready = {key.fileobj for key, _events in self._selector.select(max(0.0, timeout))}
            if self._pipe[0] in ready:
                os.read(self._pipe[0], 4096)
            if self.connection in ready:
                self.connection.poll()
        payloads = [notify.payload for notify in self.connection.notifies]
        self.connection.notifies.clear()
        return payloads

    def wake(self):
        """End the current or next `wait()`; may be called from any thread."""
        # A closed descriptor's number may already belong to another file.
        with self._lock:
            if self._pipe:
                with contextlib.suppress(BlockingIOError):  # full: it wakes anyway
                    os.write(self._pipe[1], b"x")

    def execute(self, statement, params=None):
        """Execute one statement on the private connection and return its rows."""
        with self.connection.cursor() as cursor:
            cursor.execute(statement, params)
            return cursor.fetchall() if cursor.description else []

    def close(self):
        """Stop hearing."""
        with self._lock:
            pipe, self._pipe = self._pipe, ()
        self._selector.close()
        self.connection.close()
        for descriptor in pipe:
            os.close(descriptor)

    def __enter__(self):
        return self

    def __exit__(self, *_exc):
        self.close()
