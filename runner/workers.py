"""Threads that wait for work, made when needed and kept for the next."""

import logging
import queue
import threading

from .http_errors import traceback_of

_logger = logging.getLogger(__name__)

#: Seconds after which a thread without work ends.
IDLE = 30.0


class Workers:
    """At most `size` daemon threads: a call that never returns cannot keep the process alive."""

    def __init__(self, size, name, on_free):
        """Make a group of threads.

        :param int size: threads at most
        :param str name: their name in logs and stack dumps
        :param on_free: called, without arguments, each time a thread is free again
        """
        self.size = size
        self.name = name
        self._on_free = on_free
        self._work = queue.SimpleQueue()
        self._lock = threading.Lock()
        self._threads = 0
        self._busy = 0

    @property
    def free(self):
        """How many more pieces of work could start at once."""
        return max(0, self.size - self._busy)

    def submit(self, function, *args):
        """Run `function(*args)` in one of the threads.

        :raise RuntimeError: when the system gives no thread, and there is none yet
        """
        with self._lock:
            if self._threads < min(self._busy + 1, self.size):
                self._add_thread()
            self._busy += 1
            # Within the lock: a thread that ends for lack of work looks here once more.
            self._work.put((function, args))

    def _add_thread(self):
        try:
            threading.Thread(target=self._loop, name=self.name, daemon=True).start()
        except RuntimeError:  # no memory, or a limit of the system
            if not self._threads:
                raise
            _logger.warning(
                "%s goes on with %s threads: no more are to be had", self.name, self._threads
            )
        else:
            self._threads += 1

    def _loop(self):
        while True:
            try:
                function, args = self._work.get(timeout=IDLE)
            except queue.Empty:
                with self._lock:
                    # Work that came meanwhile counts on this thread.
                    if self._work.empty():
                        self._threads -= 1
                        return
                continue
            try:
                function(*args)
            except Exception as error:  # noqa: BLE001 whatever it is
                told = traceback_of(error)
                _logger.error("A worker of %s failed\n%s", self.name, told)  # noqa: TRY400 scrubbed
            finally:
                with self._lock:
                    self._busy -= 1
                self._on_free()
