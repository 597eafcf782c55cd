"""One connection a process that hears for all who wait: a chat that is followed costs none."""

import logging
import os
import threading
import time

import psycopg2

from .listener import Listener

_logger = logging.getLogger(__name__)

#: Seconds without anybody who waits, after which the connection is given up.
LINGER = 60.0
#: Seconds between looks at whether anybody waits.
GLANCE = 1.0
#: Seconds in which a new connection has to hear.
PATIENCE = 10.0

_hubs = {}
_guard = threading.Lock()


class Ear:
    """What one waiter has heard; made by `listen()`, closed by its `with` block."""

    def __init__(self, hub, payload):
        self._hub = hub
        self._payload = payload
        self._heard = threading.Event()

    def wait(self, timeout):
        """Return whether the payload came, after at most `timeout` seconds.

        A connection that was lost counts as heard: something may have been missed.
        """
        heard = self._heard.wait(timeout)
        self._heard.clear()
        if self._hub.is_over:
            if not threading.main_thread().is_alive():  # no hub would live for long
                time.sleep(min(timeout, GLANCE))
                return True
            self._hub = _join(self._hub.dbname, self._hub.channel, self)
            return True
        return heard

    def __enter__(self):
        return self

    def __exit__(self, *_exc):
        self._hub.leave(self)


class Hub(threading.Thread):
    """Hears one channel of one database, and passes on what comes to the ears for it."""

    def __init__(self, dbname, channel):
        super().__init__(name=f"llm_generate_job.hub.{dbname}", daemon=True)
        self.dbname = dbname
        self.channel = channel
        self.is_over = False
        self.error = None
        self.ready = threading.Event()
        self._ears = {}

    def join_in(self, ear):
        """Pass on to `ear` what comes from now on."""
        self._ears.setdefault(ear._payload, []).append(ear)

    def leave(self, ear):
        """Forget an ear."""
        with _guard:
            others = self._ears.get(ear._payload, [])
            if ear in others:
                others.remove(ear)
            if not others:
                self._ears.pop(ear._payload, None)

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
            payloads = set(listener.wait(GLANCE))
            with _guard:
                for payload in payloads & self._ears.keys():
                    for ear in self._ears[payload]:
                        ear._heard.set()
                if self._ears:
                    last = time.monotonic()
                elif time.monotonic() - last > LINGER:
                    self._end()
                    return

    def _end(self):
        """Take no more ears, and have those that are left find another hub."""
        self.is_over = True
        self.ready.set()
        key = (os.getpid(), self.dbname, self.channel)
        if _hubs.get(key) is self:
            del _hubs[key]
        for ears in self._ears.values():
            for ear in ears:
                ear._heard.set()


def listen(dbname, channel, payload):
    """Return an `Ear` that hears a payload from now on.

    Make it before looking at what is waited for, or a notification is lost in between.

    :raise psycopg2.OperationalError: when the database cannot be reached
    """
    ear = Ear(None, payload)
    ear._hub = _join(dbname, channel, ear)
    return ear


def _join(dbname, channel, ear):
    key = (os.getpid(), dbname, channel)
    with _guard:
        hub = _hubs.get(key)
        if hub is None:
            hub = Hub(dbname, channel)
            hub.start()  # which may fail for lack of memory
            _hubs[key] = hub
        hub.join_in(ear)
    if not hub.ready.wait(PATIENCE) or hub.error:
        hub.leave(ear)
        raise psycopg2.OperationalError(str(hub.error or "The database does not answer."))
    return hub
