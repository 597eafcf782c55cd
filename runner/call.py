"""A call in flight, and how to hang up on it from another thread."""

import contextlib
import socket
import threading
import time

from .http_errors import retry_after


class Call:
    """What a runner knows of a job that one of its threads works on."""

    def __init__(self, claim):
        self.claim = claim
        self._lock = threading.Lock()
        self._responses = []
        self.cancelled = False
        self.pause = None

    def on_response(self, response):
        """Note an open HTTP response, to be closed when the job is cancelled.

        Its headers may say that the allowance is used up, and for how long: that is `pause`.
        Providers find this in their context as `llm_on_response`.

        :param response: one of `requests`, or a provider's own with a `close()` that wakes its
            reader and, where they are known, `headers`
        """
        wait = retry_after(getattr(response, "headers", {}))
        with self._lock:
            self._responses.append(response)
            self.pause = max(self.pause or 0.0, wait) if wait else self.pause
            cancelled = self.cancelled
        if cancelled:
            hang_up(response)

    def cancel(self):
        """Hang up: the thread that reads gets an error at once."""
        with self._lock:
            self.cancelled = True
            responses, self._responses = self._responses, []
        for response in responses:
            hang_up(response)


class Calls(dict):
    """The calls of a runner, by the tokens of their claims."""

    def add(self, claim):
        """Note that a thread is to work on a job, and return the call."""
        call = self[claim.token] = Call(claim)
        return call

    def wind_up(self, life, deadline, wait):
        """Let calls end by themselves until a deadline; give back and hang up on what is left.

        :param life: the model `llm.generation.life`
        :param float deadline: by `time.monotonic()`
        :param wait: waits so many seconds
        """
        while self and time.monotonic() < deadline:
            wait(0.1)
        calls = list(self.values())
        life._give_back_claims([call.claim for call in calls])
        for call in calls:
            call.cancel()

    def hear(self, payload):
        """Obey a notification: some jobs were cancelled."""
        what, _colon, rest = payload.partition(":")
        if what == "cancel":
            job_ids = set(rest.split(","))
            for call in list(self.values()):
                if str(call.claim.job_id) in job_ids:
                    call.cancel()


def hang_up(response):
    """Close a response that another thread may be reading.

    Closing a socket does not wake who reads from it; shutting it down does.
    """
    if not hasattr(response, "raw"):  # none of `requests`: it knows best how to be closed
        with contextlib.suppress(Exception):  # a provider's own code; the job has ended anyway
            response.close()
        return
    # Not the connection's: urllib3 lets go of that once the headers are read. Its own `shutdown()`
    # is younger than what Odoo asks for.
    reader = getattr(getattr(response.raw, "_fp", None), "fp", None)
    if sock := getattr(getattr(reader, "raw", None), "_sock", None):
        with contextlib.suppress(OSError):
            sock.shutdown(socket.SHUT_RDWR)
