"""What a runner has to look at."""

import threading


class Wakeup:
    """Nothing, some queues, or all of them; any thread may add to it."""

    def __init__(self):
        self._lock = threading.Lock()
        self._queues = set()
        self._is_all = False

    def set(self):
        """Have all queues looked at."""
        self._is_all = True

    def hear(self, payload):
        """Understand a notification: `queued:7,8` is about these queues, any other about all."""
        what, _colon, queues = payload.partition(":")
        if what == "queued" and queues:
            with self._lock:
                self._queues.update(map(int, queues.split(",")))
        else:
            self.set()

    @property
    def is_set(self):
        """Whether there is anything to look at."""
        return self._is_all or bool(self._queues)

    def take(self):
        """Return the ids of the queues to look at, None for all, and forget them."""
        with self._lock:
            queues, self._queues = sorted(self._queues), set()
            is_all, self._is_all = self._is_all, False
        return None if is_all else queues
