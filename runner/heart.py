"""A runner's heartbeats, and what becomes of its calls without them."""

import logging
import threading
import time

import psycopg2

from . import limits
from .executor import Workers

_logger = logging.getLogger(__name__)


class Heart(threading.Thread):
    """Renews a runner's heartbeat where its own thread is late, and notices when nobody can.

    Others take the jobs of who is silent for long: before they may, its calls are stopped. This
    thread only looks at the time, and waits for nothing.
    """

    def __init__(self, name, beat, calls):
        """Make a heart.

        :param str name: that of its runner
        :param beat: renews the heartbeat in the database; returns whether it still counts
        :param Running calls: what runs in the runner's name
        """
        super().__init__(name=f"{name}.heart", daemon=True)
        self._beat = beat
        self._calls = calls
        self._beats = Workers(1, f"{name}.beat", lambda: None)
        self._stopped = threading.Event()
        self._renewed_at = time.monotonic()

    def renewed(self, at):
        """Note that a heartbeat was renewed by a statement that began at `at`."""
        self._renewed_at = max(self._renewed_at, at)

    def renew(self):
        """Renew the heartbeat; return whether it still counts."""
        began = time.monotonic()
        counts = self._beat()
        if counts:
            self.renewed(began)
        return counts

    @property
    def silence(self):
        """Seconds since the heartbeat was renewed."""
        return time.monotonic() - self._renewed_at

    @property
    def is_silent(self):
        """Whether others may soon take the runner's jobs."""
        return self.silence > limits.FENCE

    def stop(self):
        """End soon; does not wait."""
        self._stopped.set()

    def run(self):
        """Look once a second, until `stop()`."""
        due = 0.0
        while not self._stopped.wait(limits.POLL_INTERVAL):
            now = time.monotonic()
            if self.silence > 1.5 * limits.HEARTBEAT and now >= due and self._beats.free:
                due = now + limits.HEARTBEAT
                self._beats.submit(self._try_to_renew)
            if self.is_silent:
                self._hang_up()

    def _hang_up(self):
        calls = [call for call in list(self._calls.values()) if not call.cancelled]
        if calls:
            told = (self.name, self.silence, len(calls))
            _logger.error("%s: no heartbeat for %.0f s, so its %s calls are stopped", *told)
        for call in calls:
            call.cancel()

    def _try_to_renew(self):
        try:
            self.renew()
        except psycopg2.Error as error:
            _logger.info("%s: no heartbeat (%s)", self.name, type(error).__name__)
