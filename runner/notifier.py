"""Wait for notifications of PostgreSQL, with a deadline."""

import contextlib
import logging
import os
import selectors
import threading
import time

import psycopg2
from psycopg2 import sql

from odoo import sql_db

_logger = logging.getLogger(__name__)

#: How to connect to a database: seconds until a connection is there, and milliseconds after which
#: one fails whose other side is gone, as where a network has gone silent.
CONNECT_TIMEOUT = 10
CONNECTION = {
    "connect_timeout": CONNECT_TIMEOUT,
    "keepalives_idle": 5,
    "keepalives_interval": 3,
    "keepalives_count": 3,
    "tcp_user_timeout": 15_000,
}


def private_connection(dbname):
    """Return a connection in autocommit mode that is not taken from Odoo's pool.

    A pooled connection forgets LISTEN and session locks when the next user borrows it.
    """
    connection = psycopg2.connect(**CONNECTION, **sql_db.connection_info_for(dbname)[1])
    connection.set_session(autocommit=True)
    return connection


def is_gone(dbname):
    """Return whether there is no database of that name any more; False where nobody can tell."""
    try:
        with contextlib.closing(private_connection("postgres")) as connection:
            cursor = connection.cursor()
            cursor.execute("SELECT FROM pg_database WHERE datname = %s", [dbname])
            return not cursor.rowcount
    except psycopg2.Error:
        return False


class Listener(contextlib.AbstractContextManager):
    """Hears the notifications of one channel from the moment it is made.

    Make it before looking at what is waited for, or a notification is lost in between.
    """

    def __init__(self, dbname, channel):
        self.connection = private_connection(dbname)
        self._channel = channel
        self._lock = threading.Lock()
        self._pipe = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        # Not `select()`: a process with many connections has descriptors beyond what it takes.
        self._selector = selectors.DefaultSelector()
        try:
            for source in (self.connection, self._pipe[0]):
                self._selector.register(source, selectors.EVENT_READ)
            self.listen()
        except BaseException:
            self.close()
            raise

    def listen(self):
        """Hear the channel from now on, if it was not heard before.

        :raise psycopg2.Error: when the connection is lost
        """
        self.execute(sql.SQL("LISTEN {}").format(sql.Identifier(self._channel)))

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

    def __exit__(self, *_exc):
        self.close()


# === SUBSCRIPTIONS ===
# One connection a process that hears for all who wait: a chat that is followed costs none.

#: Seconds without anybody who waits, after which the connection is given up.
IDLE_TIMEOUT = 60.0
#: Seconds between looks at whether anybody waits.
POLL_INTERVAL = 1.0

_notifiers = {}
_guard = threading.Lock()


class Subscription(contextlib.AbstractContextManager):
    """What one waiter has heard; made by `listen()`, closed by its `with` block."""

    def __init__(self, notifier, payload):
        self._notifier = notifier
        self._payload = payload
        self._event = threading.Event()

    def wait(self, timeout):
        """Return whether the payload came, after at most `timeout` seconds.

        A connection that was lost counts as heard: something may have been missed.
        """
        heard = self._event.wait(timeout)
        self._event.clear()
        if self._notifier.is_over:
            if not threading.main_thread().is_alive():  # no notifier would live for long
                time.sleep(min(timeout, POLL_INTERVAL))
                return True
            self._notifier = _join(self._notifier.dbname, self._notifier.channel, self)
            return True
        return heard

    def __exit__(self, *_exc):
        self._notifier.leave(self)


class Notifier(threading.Thread):
    """Hears one channel of one database, and passes on what comes to the subscriptions for it."""

    def __init__(self, dbname, channel):
        super().__init__(name=f"llm_generate_job.notifier.{dbname}", daemon=True)
        self.dbname = dbname
        self.channel = channel
        self.is_over = False
        self.error = None
        self.ready = threading.Event()
        self._subscriptions = set()

    def leave(self, subscription):
        """Forget a subscription."""
        with _guard:
            self._subscriptions.discard(subscription)

    def run(self):
        """Hear until nobody has waited for a while, or the database hangs up."""
        try:
            with Listener(self.dbname, self.channel) as listener:
                self.ready.set()
                self._hear(listener)
        except psycopg2.Error as error:
            self.error = error
            _logger.info("Nobody hears %s any more: %s", self.channel, type(error).__name__)
        finally:
            with _guard:
                self._end()

    def _hear(self, listener):
        last = time.monotonic()
        while threading.main_thread().is_alive():
            payloads = set(listener.wait(POLL_INTERVAL))
            with _guard:
                for subscription in self._subscriptions:
                    if subscription._payload in payloads:
                        subscription._event.set()
                if self._subscriptions:
                    last = time.monotonic()
                elif time.monotonic() - last > IDLE_TIMEOUT:
                    self._end()
                    return

    def _end(self):
        """Take no more subscriptions, and have those that are left find another notifier."""
        self.is_over = True
        self.ready.set()
        key = (os.getpid(), self.dbname, self.channel)
        if _notifiers.get(key) is self:
            del _notifiers[key]
        for subscription in self._subscriptions:
            subscription._event.set()


def listen(dbname, channel, payload):
    """Return a `Subscription` that hears a payload from now on.

    Make it before looking at what is waited for, or a notification is lost in between.

    :raise psycopg2.OperationalError: when the database cannot be reached
    """
    subscription = Subscription(None, payload)
    subscription._notifier = _join(dbname, channel, subscription)
    return subscription


def _join(dbname, channel, subscription):
    key = (os.getpid(), dbname, channel)
    with _guard:
        notifier = _notifiers.get(key)
        if notifier is None:
            notifier = Notifier(dbname, channel)
            notifier.start()  # which may fail for lack of memory
            _notifiers[key] = notifier
        notifier._subscriptions.add(subscription)
    if not notifier.ready.wait(CONNECT_TIMEOUT) or notifier.error:
        notifier.leave(subscription)
        raise psycopg2.OperationalError(str(notifier.error or "The database does not answer."))
    return notifier


# === OUTBOX ===


class Outbox:
    """Ids of jobs to which something happened; any thread may add to them, until it is closed."""

    def __init__(self):
        self._lock = threading.Lock()
        self._ids = set()
        self._is_closed = False

    def __bool__(self):
        return bool(self._ids)

    def add(self, job_ids):
        """Have jobs told about; return False where nobody will any more."""
        with self._lock:
            if not self._is_closed:
                self._ids.update(job_ids)
            return not self._is_closed

    def close(self):
        """Take nothing more; what is there can still be sent."""
        with self._lock:
            self._is_closed = True

    def send(self, tell):
        """Call `tell(ids)` with what has come together, each job once.

        What cannot be told as the database is away is told the next time.
        """
        with self._lock:
            job_ids, self._ids = self._ids, set()
        try:
            if job_ids:
                tell(sorted(job_ids))
        except psycopg2.Error as error:
            with self._lock:
                self._ids |= job_ids
            _logger.info("The news of %s jobs wait: %s", len(job_ids), type(error).__name__)
