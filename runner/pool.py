"""The runners of this process, one a database."""

import contextlib
import ctypes
import os
import threading
import time

from odoo.service import server
from odoo.tools import config

from . import limits

#: Parameter of glibc's mallopt(3).
M_ARENA_MAX = -8

_runners = {}
_guard = threading.Lock()
_stopping = threading.Event()


def is_running(dbname):
    """Return whether this process has a runner for the database that takes new jobs."""
    return (os.getpid(), dbname) in _runners


def is_stopping():
    """Return whether this process ends, and takes no more jobs."""
    return _stopping.is_set()


def outbox(dbname):
    """Return where this process's runner takes its news from, None where there is no runner."""
    runner = _runners.get((os.getpid(), dbname))
    return runner and runner.outbox


def look_at(dbname, queue_ids):
    """Make this process's runner, where there is one, look at some queues now."""
    if runner := _runners.get((os.getpid(), dbname)):
        runner.look_at(queue_ids)


def ensure(dbname):
    """Return this process's runner for the database, starting one if there is none.

    None in a process that ends: see `is_stopping()`.
    """
    # Not at the top: the models import this module, and the runner needs their registry.
    from .runner import Runner  # noqa: PLC0415

    key = (os.getpid(), dbname)
    with _guard:
        if is_stopping():
            return None
        runner = _runners.get(key)
        if runner is None:
            _spare_address_space()
            runner = Runner(dbname)
            runner.start()  # which may fail for lack of memory
            _runners[key] = runner
        return runner


def starts_by_itself():
    """Return whether this process may have a runner without a scheduled action's starting it.

    A threaded server may, and has to: when PostgreSQL restarts, its threads for scheduled
    actions end, and nothing starts them again.
    """
    return (
        isinstance(server.server, server.ThreadedServer)
        and server.server.httpd is not None
        and config["max_cron_threads"] > 0
        and not config["test_enable"]
        and not is_stopping()
    )


def _spare_address_space():
    """Keep glibc from giving each thread 64 MiB of addresses to allocate from.

    Odoo's memory limits count addresses, not memory. It does the same for its threaded server;
    worker processes would end and start again all the time.
    """
    with contextlib.suppress(OSError, AttributeError):  # another libc has no such thing
        ctypes.CDLL("libc.so.6").mallopt(ctypes.c_int(M_ARENA_MAX), ctypes.c_int(2))


def retire(runner):
    """Forget a runner: from now on the next job starts another one."""
    with _guard:
        key = (os.getpid(), runner.dbname)
        if _runners.get(key) is runner:
            del _runners[key]


def stop_all():
    """Ask the runners of this process to end, and wait until they have.

    A threaded server closes its database connections next, also those in use: what a call is
    just writing would be lost, and with it an answer that is paid for. One that reloads itself
    ends its threads at once.
    """
    with _guard:  # whoever starts a runner just now
        _stopping.set()
    threads = [thread for threads_of in ENDING for thread in list(threads_of())]
    for thread in threads:
        thread.stop()
    deadline = time.monotonic() + limits.GRACE + limits.FAREWELL
    while any(thread.is_alive() for thread in threads) and time.monotonic() < deadline:
        # A join() would not hear a second SIGTERM, which ends the process at once; a second SIGHUP
        # only raises this, and would end what is to reload.
        with contextlib.suppress(KeyboardInterrupt):
            time.sleep(0.05)


#: What gives threads of this process to stop as the server ends, each with a `stop()` that does
#: not wait.
ENDING = [_runners.values]
server.CommonServer.on_stop(stop_all)
