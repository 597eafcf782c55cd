"""What a runner has to look at, and when."""

import threading
import time


class Wakeup:
    """Nothing, some queues, or all of them, now or later; any thread may add to it."""

    def __init__(self, clock=time.monotonic):
        self._clock = clock
        self._lock = threading.Lock()
        self._queues = set()
        self._is_all = False
        self._later = {}

    def set(self):
        """Have all queues looked at."""
        with self._lock:
            self._is_all = True

    def set_later(self, waits):
        """Have queues looked at after a wait each, which takes the place of an earlier one.

        :param dict waits: seconds by queue
        """
        now = self._clock()
        with self._lock:
            self._later |= {queue_id: now + seconds for queue_id, seconds in waits.items()}

    def add(self, queue_ids, delay=0.0):
        """Have queues looked at: all of them where none is named.

        :param float delay: seconds until then; a queue that is due sooner stays so
        """
        if not queue_ids:
            self.set()
            return
        at = self._clock() + delay
        with self._lock:
            if delay:
                self._later |= {each: min(at, self._later.get(each, at)) for each in queue_ids}
            else:
                self._queues.update(queue_ids)

    def hear(self, payload, slot_delay=0.0):
        """Understand a notification: `queued:7,8` is about these queues, `clock` is for the clock
        only, any other is about all.

        :param float slot_delay: seconds that `slot:7,8` waits: the process that says it looks first
        """
        what, _colon, queues = payload.partition(":")
        if what in {"queued", "slot"}:
            ids = [int(queue_id) for queue_id in queues.split(",") if queue_id]
            self.add(ids, slot_delay if what == "slot" else 0.0)
        elif what != "clock":
            self.set()

    @property
    def left(self):
        """Seconds until there is something to look at, 0 for now, infinite where nobody knows."""
        if self._is_all or self._queues:
            return 0.0
        with self._lock:
            first = min(self._later.values(), default=float("inf"))
        return max(0.0, first - self._clock())

    def take(self):
        """Return the ids of the queues to look at now, None for all, and forget them."""
        with self._lock:
            now = self._clock()
            due = {queue_id for queue_id, at in self._later.items() if at <= now}
            self._later = {each: at for each, at in self._later.items() if each not in due}
            queues, self._queues = sorted(self._queues | due), set()
            is_all, self._is_all = self._is_all, False
        return None if is_all else queues
