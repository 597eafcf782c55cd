"""Keeps the threads of a process from calling a provider that has just asked for a pause."""

import time

#: Seconds for which the gate is shut at most: by then every claim sees the pause of the queue.
LASTS = 2.0


class Gate:
    """Shut while the news of a pause travels, from the answer that asks for it on.

    The queue's row has the pause, and who claims jobs obeys it. Jobs that were claimed before may
    be on their way to the provider at that moment, here or in another process.
    """

    def __init__(self, clock=time.monotonic):
        self._clock = clock
        self.open()

    def open(self):
        """Forget the pause: somebody has ended it."""
        self._shut_at = self._until = float("-inf")

    def shut(self, seconds):
        """Note that the provider wants no call for so many seconds."""
        self._shut_at = self._clock()
        self._until = max(self._until, self._shut_at + seconds)

    @property
    def left(self):
        """Seconds of the pause that are left, 0 where the gate is open."""
        now = self._clock()
        return max(0.0, self._until - now) if now < self._shut_at + LASTS else 0.0
