"""When a runner has to do what."""

import threading
import time


class Deadlines:
    """The next time of each thing to do; any thread may bring one forward, none gets lost."""

    def __init__(self, *names, clock=time.monotonic):
        self._clock = clock
        self._lock = threading.Lock()
        self._at = dict.fromkeys(names, float("-inf"))

    def reset(self):
        """Have everything done now."""
        with self._lock:
            self._at = dict.fromkeys(self._at, float("-inf"))

    def has_come(self, name):
        """Return whether it is time for something."""
        return self._clock() >= self._at[name]

    def put_off(self, name, seconds):
        """Have something done in so many seconds, however soon it was due.

        Do it before what takes time: what is brought forward meanwhile stays so.
        """
        with self._lock:
            self._at[name] = self._clock() + seconds

    def bring_forward(self, name, seconds):
        """Have something done in so many seconds, unless it is due sooner."""
        with self._lock:
            self._at[name] = min(self._at[name], self._clock() + seconds)

    def left(self, *names):
        """Return the seconds until the first of these is due, 0 where one is."""
        return max(0.0, min(self._at[name] for name in names) - self._clock())
