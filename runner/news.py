"""What the web clients still have to be told."""

import logging
import threading

import psycopg2

_logger = logging.getLogger(__name__)


class News:
    """Ids of jobs to which something happened; any thread may add to them, until it is closed."""

    def __init__(self):
        self._lock = threading.Lock()
        self._ids = set()
        self._is_closed = False

    def __bool__(self):
        return bool(self._ids)

    def add(self, job_ids):
        """Have jobs told about; return False where nobody will any more."""
        with self._lock:
            if not self._is_closed:
                self._ids.update(job_ids)
            return not self._is_closed

    def close(self):
        """Take nothing more; what is there can still be sent."""
        with self._lock:
            self._is_closed = True

    def send(self, tell):
        """Call `tell(ids)` with what has come together, each job once.

        What cannot be told as the database is away is told the next time.
        """
        with self._lock:
            job_ids, self._ids = self._ids, set()
        try:
            if job_ids:
                tell(sorted(job_ids))
        except psycopg2.Error as error:
            with self._lock:
                self._ids |= job_ids
            _logger.info("The news of %s jobs wait: %s", len(job_ids), type(error).__name__)
