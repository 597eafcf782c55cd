"""Stores verdicts in batches: jobs that end at the same time share one transaction."""

import logging
import queue
import threading
import time

_logger = logging.getLogger(__name__)

#: Verdicts stored in one transaction at most.
BATCH = 200
#: Seconds to wait for the next one: calls that began together end together.
GATHER = 0.002
#: Seconds that the first one waits at most.
LONGEST_GATHER = 0.02


class Finisher(threading.Thread):
    """Takes `(claim, answer)` pairs from the calls' threads and hands them to `store(pairs)`."""

    def __init__(self, name, store, calls):
        """Make a thread.

        :param calls: what is in flight, or waits here; nothing more can come than it has
        """
        super().__init__(name=name, daemon=True)
        self._store = store
        self._calls = calls
        self._queue = queue.SimpleQueue()

    def put(self, claim, answer):
        """Have a verdict stored soon."""
        self._queue.put((claim, answer))

    def stop(self):
        """End once everything that was put before is stored; does not wait."""
        self._queue.put(None)

    def run(self):
        """Store what comes, until `stop()`."""
        is_over = False
        while not is_over:
            pairs = self._gather()
            is_over = None in pairs
            pairs = [pair for pair in pairs if pair]
            if not pairs:
                continue
            try:
                self._store(pairs)
            except Exception:
                # The thread must go on: everything that ends later passes through here.
                _logger.exception("%s answers were lost", len(pairs))

    def _gather(self):
        """Return what comes until nothing more does: a busy stream of answers is stored in
        batches, not in crumbs."""
        pairs = [self._queue.get()]
        latest = time.monotonic() + LONGEST_GATHER
        while len(pairs) < min(BATCH, len(self._calls)) and time.monotonic() < latest:
            try:
                pairs.append(self._queue.get(timeout=GATHER))
            except queue.Empty:
                break
        return pairs
