"""How often to do what is cheaper in batches."""

import time

#: Seconds of rest at most: what waits for a slot does not notice less than this.
LONGEST_REST = 0.003


class Pace:
    """Rests after a piece of work as long as the work took.

    A busy loop that takes whatever is there at once takes crumbs: the busier the machine, the
    smaller they are, and the more of its time goes into taking. Resting lets them add up.
    """

    def __init__(self, clock=time.monotonic):
        self._clock = clock
        self._began = self._rested = float("-inf")

    def begin(self):
        """Note that the work begins."""
        self._began = self._clock()

    def end(self):
        """Note that it has ended."""
        now = self._clock()
        self._rested = now + min(now - self._began, LONGEST_REST)

    @property
    def rest(self):
        """Seconds until the work should be done again, 0 for at once."""
        return max(0.0, self._rested - self._clock())
