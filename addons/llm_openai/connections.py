"""Connections that are kept for the next call of the same server, with the same key.

A call has a session of `requests` to itself, and urllib3 keeps its connection: it takes none that
the server has closed meanwhile, and sends nothing twice.
"""

import contextlib
import os
import socket
import threading
import time
from http.cookiejar import DefaultCookiePolicy

import requests
from requests.adapters import HTTPAdapter
from urllib3.exceptions import HTTPError

#: Seconds for which a connection without a call is kept. Servers keep theirs longer, from 2 s
#: (Gunicorn) and 5 s (Uvicorn, Node.js) on: who closes one just now loses what is being sent.
IDLE = 1.5
#: Connections without a call that a process keeps.
MOST = 64
#: Seconds that the end of an answer is waited for of which all is known.
END = 0.05


class Line:
    """The connection of one call: while that goes on, any thread may close it."""

    def __init__(self, on_connection=None):
        self._lock = threading.Lock()
        self._on_connection = on_connection
        self._socket = None
        self._is_cut = False

    def connected(self, sock):
        """Take the socket of the call, and tell of it who may want to close it."""
        if sock is self._socket:
            return
        self._socket = sock
        if self._on_connection:
            self._on_connection(self)

    def close(self):
        """End the connection, and wake the thread that waits for it."""
        with self._lock:
            self._is_cut = True
            # Not the method of an SSL socket: it would let go of the encryption first.
            with contextlib.suppress(AttributeError, OSError, TypeError):
                socket.socket.shutdown(self._socket, socket.SHUT_RDWR)

    def let_go(self):
        """Return whether nobody has closed it; from now on nobody does, as others may have it."""
        with self._lock:
            self._socket = None
            return not self._is_cut

    def read_end(self, response):
        """Read the end of an answer of which all is known, where it comes at once."""
        sock = self._socket
        with contextlib.suppress(AttributeError, OSError, ValueError, HTTPError):
            seconds = sock.gettimeout()
            sock.settimeout(END)
            try:
                response.raw.read1(1)
            finally:
                sock.settimeout(seconds)


class _HeardConnection:
    """What a connection of urllib3 becomes of which others know."""

    def connect(self):
        result = super().connect()
        self.adapter.line.connected(self.sock)
        return result

    def request(self, *args, **kwargs):
        if self.sock is not None:  # it was kept
            self.adapter.line.connected(self.sock)
        return super().request(*args, **kwargs)


class Adapter(HTTPAdapter):
    """Gives every request its two limits; Odoo's tests accept no pair as a request's `timeout`.

    Both attributes are those of the call that has the session.
    """

    timeout = line = None

    def get_connection_with_tls_context(self, *args, **kwargs):
        return self._heard(super().get_connection_with_tls_context(*args, **kwargs))

    def get_connection(self, *args, **kwargs):  # of an older requests
        return self._heard(super().get_connection(*args, **kwargs))

    def _heard(self, pool):
        """Have the connections of a pool told to who may want to close them."""
        if not issubclass(pool.ConnectionCls, _HeardConnection):
            bases = (_HeardConnection, pool.ConnectionCls)
            pool.ConnectionCls = type("HeardConnection", bases, {"adapter": self})
        return pool

    def send(self, request, timeout=None, **kwargs):
        return super().send(request, timeout=timeout or self.timeout, **kwargs)


class Sessions:
    """The sessions of a process that no call has just now, the oldest first."""

    def __init__(self):
        self._lock = threading.Lock()
        self._kept = []
        self._sweeper = None

    @contextlib.contextmanager
    def of(self, key, timeout, line):
        """Yield a session for one call, which is kept if that ends well.

        :param key: the server and the credentials: of another one no session is taken
        :param timeout: `(connect, read)` seconds
        :param Line line: that of the call
        """
        key = (os.getpid(), key)
        session = self._take(key) or _session()
        adapter = session.get_adapter("https://")
        adapter.timeout, adapter.line = timeout, line
        is_whole = False
        try:
            yield session
            is_whole = True
        finally:
            if line.let_go() and is_whole:
                self._keep(key, session)
            else:
                session.close()

    def _take(self, key):
        with self._lock:
            for place in reversed(range(len(self._kept))):
                if self._kept[place][1] == key and self._kept[place][0] > time.monotonic() - IDLE:
                    return self._kept.pop(place)[2]
        return None

    def _keep(self, key, session):
        with self._lock:
            self._kept.append((time.monotonic(), key, session))
            if not self._sweeper:
                self._wait()
        self._close_old()

    def _wait(self):
        sweeper = threading.Timer(IDLE, self._sweep)
        sweeper.daemon = True
        with contextlib.suppress(RuntimeError):  # no thread is to be had: the answer is, though
            sweeper.start()
            self._sweeper = sweeper

    def _sweep(self):
        self._close_old()
        with self._lock:
            self._sweeper = None
            if self._kept:
                self._wait()

    def _close_old(self):
        """Close what no call has had for too long, and what is too much."""
        with self._lock:
            oldest = time.monotonic() - IDLE
            count = sum(since <= oldest for since, _key, _session in self._kept)
            count = max(count, len(self._kept) - MOST)
            closed, self._kept = self._kept[:count], self._kept[count:]
        for _since, _key, session in closed:
            session.close()


def _session():
    session = requests.Session()
    # What a server remembers of one answer by a cookie is none of the next one's.
    session.cookies.set_policy(DefaultCookiePolicy(allowed_domains=[]))
    adapter = Adapter()
    for scheme in ("http://", "https://"):
        session.mount(scheme, adapter)
    return session


#: For this process.
SESSIONS = Sessions()
