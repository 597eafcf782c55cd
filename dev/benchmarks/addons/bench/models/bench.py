import itertools
import random
import threading
import time

from odoo import api, models
from odoo.exceptions import UserError

#: Seconds to wait for a job to start before the measurement is given up.
PATIENCE = 90

_keys = itertools.count(1)
_calls = {}
_events = {}


def work(key, seconds):
    """Do what a job does: note when it was called, and block for a while."""
    if event := _events.get(key):
        _calls[key] = time.time_ns()
        event.set()
    if seconds:
        time.sleep(seconds)


class Bench(models.AbstractModel):
    """Queues work and takes the time, inside the server that runs it."""

    _name = "bench"
    _description = "Benchmark"

    @api.model
    def _queue(self, lane, keys, seconds):
        """Queue one job per key within the transaction.

        :param str lane: whose limit holds, `ten` or `fifty`
        :param float seconds: how long each job blocks
        """
        raise NotImplementedError

    @api.model
    def enqueue(self, lane, count, seconds=0.0):
        """Queue jobs in one transaction.

        :return: dict with the `seconds` that it took, and the time (ns) when it was `committed`
        """
        keys = [next(_keys) for _ in range(count)]
        begin = time.perf_counter()
        committed = self._stamp_commit()
        self._queue(lane, keys, seconds)
        self.env.cr.commit()  # pylint: disable=invalid-commit
        return {"seconds": time.perf_counter() - begin, "committed": committed[0]}

    @api.model
    def dispatch(self, lane, count):
        """Queue jobs one by one; return the milliseconds from each commit to its call."""
        latencies = []
        for key in itertools.islice(_keys, count):
            event = _events[key] = threading.Event()
            committed = self._stamp_commit()
            self._queue(lane, [key], 0.0)
            self.env.cr.commit()  # pylint: disable=invalid-commit
            if not event.wait(PATIENCE):
                raise UserError(self.env._("Job %s was not started.", key))
            latencies.append(max(0.0, (_calls.pop(key) - committed[0]) / 1e6))
            del _events[key]
            # Long enough for the job to end, and in step with no timer.
            time.sleep(random.uniform(0.02, 0.05))
        return latencies

    @api.model
    def _stamp_commit(self):
        """Return a list to which the time is added once the transaction is committed."""
        stamps = []
        self.env.cr.postcommit.add(lambda: stamps.append(time.time_ns()))
        return stamps
