"""What the web clients still have to be told."""

import contextlib
import logging
from collections import deque

import psycopg2

_logger = logging.getLogger(__name__)


class News(deque):
    """Ids of jobs to which something happened; any thread may add to them."""

    def send(self, tell):
        """Call `tell(ids)` with what has come together, each job once.

        What cannot be told as the database is away is told the next time.
        """
        job_ids = set()
        with contextlib.suppress(IndexError):  # nothing is left, or another thread has it
            while True:
                job_ids.add(self.popleft())
        try:
            if job_ids:
                tell(sorted(job_ids))
        except psycopg2.Error as error:
            self.extend(job_ids)
            _logger.info("The news of %s jobs wait: %s", len(job_ids), type(error).__name__)
