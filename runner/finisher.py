"""Stores verdicts in batches: jobs that end at the same time share one transaction."""

import logging
import queue
import threading
import time

from .http_errors import traceback_of

_logger = logging.getLogger(__name__)

#: Verdicts stored in one transaction at most.
BATCH = 200
#: Seconds to wait for the next one: calls that began together end together.
GATHER = 0.001
#: Seconds that the first one waits at most.
LONGEST_GATHER = 0.02
#: Seconds until a verdict is tried again whose job somebody is changing.
HELD = 0.05


class Finisher(threading.Thread):
    """Takes `(claim, answer)` pairs from the calls' threads and hands them to `store(pairs)`.

    That returns the pairs to try again: a business transaction that holds one job for minutes
    does not hold up the verdicts of all others.
    """

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
        held, is_over = [], False
        while not is_over:
            pairs = self._gather(HELD if held else None)
            is_over = None in pairs
            pairs = held + [pair for pair in pairs if pair]
            held = []
            if not pairs:
                continue
            try:
                held = self._store(pairs) or []
            except Exception as error:  # noqa: BLE001 whatever it is
                # The thread must go on: everything that ends later passes through here.
                told = traceback_of(error)
                _logger.error("%s answers were lost\n%s", len(pairs), told)  # noqa: TRY400 scrubbed

    def _gather(self, timeout):
        """Return what comes until nothing more does: a busy stream of answers is stored in
        batches, not in crumbs. Nothing comes of it when the first is not there in time."""
        try:
            pairs = [self._queue.get(timeout=timeout)]
        except queue.Empty:
            return []
        latest = time.monotonic() + LONGEST_GATHER
        while len(pairs) < min(BATCH, len(self._calls)) and time.monotonic() < latest:
            try:
                pairs.append(self._queue.get(timeout=GATHER))
            except queue.Empty:
                break
        return pairs
