"""Stores verdicts in batches: jobs that end at the same time share one transaction."""

import logging
import queue
import threading

_logger = logging.getLogger(__name__)

#: Verdicts stored in one transaction at most.
BATCH = 200


class Finisher(threading.Thread):
    """Takes `(claim, answer)` pairs from the calls' threads and hands them to `store(pairs)`."""

    def __init__(self, name, store):
        super().__init__(name=name, daemon=True)
        self._store = store
        self._queue = queue.SimpleQueue()
        self._lock = threading.Lock()
        self._pending = 0

    def put(self, claim, answer):
        """Have a verdict stored soon."""
        with self._lock:
            self._pending += 1
        self._queue.put((claim, answer))

    @property
    def is_idle(self):
        """Whether everything that was put is stored."""
        return not self._pending

    def run(self):
        """Store what comes, for as long as the process lives."""
        while True:
            pairs = [self._queue.get()]
            while len(pairs) < BATCH and not self._queue.empty():
                pairs.append(self._queue.get())
            try:
                self._store(pairs)
            except Exception:
                # The thread must go on: everything that ends later passes through here.
                _logger.exception("%s answers were lost", len(pairs))
            finally:
                with self._lock:
                    self._pending -= len(pairs)
