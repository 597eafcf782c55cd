"""The runners of this process, one a database."""

import os
import threading

from odoo.service.server import CommonServer

_runners = {}
_guard = threading.Lock()


def is_running(dbname):
    """Return whether this process has a runner for the database that takes new jobs."""
    return (os.getpid(), dbname) in _runners


def ensure(dbname):
    """Return this process's runner for the database, starting one if there is none."""
    # Not at the top: the models import this module, and the runner needs their registry.
    from .runner import Runner  # noqa: PLC0415

    key = (os.getpid(), dbname)
    with _guard:
        runner = _runners.get(key)
        if runner is None:
            runner = _runners[key] = Runner(dbname)
            runner.start()
        return runner


def retire(runner):
    """Forget a runner: from now on the next job starts another one."""
    with _guard:
        key = (os.getpid(), runner.dbname)
        if _runners.get(key) is runner:
            del _runners[key]


def stop_all():
    """Ask the runners of this process to end."""
    for runner in list(_runners.values()):
        runner.stop()


CommonServer.on_stop(stop_all)
