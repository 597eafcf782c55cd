"""Whether the database's clock was set."""

import time

#: Seconds by which the two clocks may run apart between two looks; a busy machine is allowed for.
TOLERANCE = 30.0


class ClockWatch:
    """Compares the database's clock with one that nobody can set."""

    def __init__(self, clock=time.monotonic):
        self._clock = clock
        self._offset = None

    def look(self, now):
        """Return by how many seconds the clock was set since the last look, 0 for not at all.

        :param float now: the database's time, in seconds
        """
        offset, before = now - self._clock(), self._offset
        self._offset = offset
        jump = 0.0 if before is None else offset - before
        return jump if abs(jump) > TOLERANCE else 0.0
