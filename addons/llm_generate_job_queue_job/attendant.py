"""Stands for a process of queue_job's workers while it runs our jobs."""

import contextlib
import functools
import logging
import os
import queue
import socket
import threading
import time

import psycopg2

from odoo.addons.llm_generate_job.const import RUNNER_CHANNEL
from odoo.addons.llm_generate_job.protocol.http_errors import traceback_of
from odoo.addons.llm_generate_job.runner import limits as runner_limits
from odoo.addons.llm_generate_job.runner import runner as runners
from odoo.addons.llm_generate_job.runner.executor import EnvironmentFactory, Executions
from odoo.addons.llm_generate_job.runner.messages import parse
from odoo.addons.llm_generate_job.runner.notifier import Listener

from .limits import READY

_logger = logging.getLogger(__name__)

_attendants = {}
_guard = threading.Lock()


class Attendant(threading.Thread):
    """One thread that says "this process lives", and hears what concerns its calls.

    Its row is that of a runner, its lock one of a connection that ends with the process: who
    rescues the jobs of dead runners rescues these, too. It claims nothing. It is no daemon:
    Python waits for it at the end of the process, so that it can give back what will not finish.
    """

    def __init__(self, dbname):
        super().__init__(name=f"llm_generate_job_queue_job.{dbname}", daemon=False)
        self.dbname = dbname
        self.title = f"{socket.gethostname()}:{os.getpid()} queue_job"
        self.runner_id = self._heartbeat = None
        self.ready = threading.Event()
        #: Held while claims are begun: what is begun just now is not lost.
        self.beginning = threading.Lock()
        self._asked, self._begun = queue.SimpleQueue(), {}
        # Other processes have to see that this one lives, in tests, too.
        self._models = EnvironmentFactory(dbname, generation_inline=False)
        self._executions = Executions(self._models, f"{self.name}.finish", lambda: None)
        self.calls = self._executions.calls
        self._heart = runners.Heart(self.name, self._beat, self.calls)
        self._executions.is_silent = lambda: self._heart.is_silent
        self._stopping = threading.Event()
        self._last_call = time.monotonic()

    def stop(self):
        """End once the calls in flight have ended; does not wait."""
        self._stopping.set()

    def begin(self, claim):
        """Begin a claim, together with those of other workers that came meanwhile.

        :return: what `_begin()` says of it; None while somebody is changing the job
        """
        self._asked.put(claim)
        with self.beginning:
            if claim.token not in self._begun:
                claims = {claim.token: claim}
                while not self._asked.empty():
                    other = self._asked.get()
                    claims[other.token] = other
                delegation = self._models.engine().env["llm.generation.delegation"]
                begun = delegation._begin([*claims.values()], self.runner_id, self.title)
                self._begun |= {token: begun.get(token) for token in claims}
            return self._begun.pop(claim.token)

    def execute(self, job_context, call):
        """Run a job that was begun, and wait until its answer is stored: with those of others.

        :param Execution call: the one of its claim
        :raise TimeoutError: where the process ends before
        """
        self._executions.execute(job_context, "_run")
        while not call.is_over.wait(runner_limits.POLL_INTERVAL):
            if not self.is_alive():
                raise TimeoutError

    def run(self):
        """Attend to the calls of this process until there are none for a while."""
        self._heart.start()
        while not self._is_over():
            try:
                self._serve()
            except psycopg2.Error as error:
                _logger.warning("%s lost the database: %s", self.title, type(error).__name__)
            except Exception as error:  # noqa: BLE001 whatever it is
                told = traceback_of(error)
                _logger.error("%s failed, and starts over\n%s", self.title, told)  # noqa: TRY400 redacted
            self.ready.clear()
            if not self._is_over():
                time.sleep(1.0)
        self._heart.stop()
        self._executions.stop()
        _forget(self)

    def _is_over(self):
        # A worker process of Odoo says its end only by letting its main thread return.
        if self._stopping.is_set() or not self._models.are_installed:
            return True
        return not threading.main_thread().is_alive()

    def _serve(self):
        with Listener(self.dbname, RUNNER_CHANNEL) as listener:
            if newer := self._models.engine()._newer_than_tables():
                runners.warn_of_old_tables(self.dbname, *newer)
                self.stop()
                return
            self._register(listener)
            heartbeat_at = 0.0
            while not self._is_over():
                if time.monotonic() >= heartbeat_at:
                    heartbeat_at = time.monotonic() + runner_limits.HEARTBEAT
                    self._maintain(listener)
                self._hear(listener, runner_limits.POLL_INTERVAL)
                if self.calls:
                    self._last_call = time.monotonic()
                elif time.monotonic() - self._last_call > runner_limits.IDLE_TIMEOUT and _forget(
                    self
                ):
                    self.stop()
            self._leave(listener)

    def _register(self, listener):
        engine = self._models.engine()
        # How many run at once is up to the channels of queue_job.
        began = time.monotonic()
        with self.beginning:  # nothing is begun in the name that it had
            self.runner_id = engine._register_runner(listener, self.title, 0, self.runner_id)
        self._heartbeat = engine._heartbeat
        self._heart.renewed(began)
        self.ready.set()

    def _beat(self):
        return self._heartbeat and runners.beat(self.dbname, self._heartbeat, self.runner_id)

    def _maintain(self, listener):
        engine = self._models.engine()
        if not self._heart.renew():
            _logger.warning("%s was taken for dead, and registers again", self.title)
            self._register(listener)
        with self.beginning:
            engine._rescue_lost(self.runner_id, list(self.calls))

    def _leave(self, listener):
        """Wait for the calls in flight, give back what is left, and sign off."""
        if not self._models.are_installed:
            return
        engine = self._models.engine()
        deadline = time.monotonic() + runner_limits.GRACE
        self._executions.hurry(deadline - runner_limits.LAST_TRY)
        self.calls.wind_up(engine, deadline, functools.partial(self._hear, listener))
        engine._unregister_runner(self.runner_id)

    def _hear(self, listener, seconds):
        for payload in listener.wait(seconds):
            self.calls.hear(parse(payload))


@contextlib.contextmanager
def attend(dbname, claim):
    """Yield this process's attendant and the call of a claim, None for a claim that it has.

    :raise TimeoutError: where the attendant gets no connection to the database, or the process ends
    """
    attendant, call = _note(dbname, claim)
    if call is None:
        yield attendant, None
        return
    try:
        if not attendant.ready.wait(READY):
            raise TimeoutError
        yield attendant, call
    finally:
        attendant.calls.pop(claim.token, None)


def _note(dbname, claim):
    key = (os.getpid(), dbname)
    with _guard:
        attendant = _attendants.get(key)
        if attendant is None:
            if runners.is_stopping():  # nobody would wait for it
                raise TimeoutError
            attendant = Attendant(dbname)
            attendant.start()  # which may fail for lack of memory
            _attendants[key] = attendant
        if claim.token in attendant.calls:
            return attendant, None
        return attendant, attendant.calls.add(claim)


def _forget(attendant):
    """Have the next call get another attendant; return whether this one has none any more."""
    with _guard:
        if attendant.calls and not attendant._is_over():
            return False
        key = (os.getpid(), attendant.dbname)
        if _attendants.get(key) is attendant:
            del _attendants[key]
        return True


runners.ENDING.append(_attendants.values)
