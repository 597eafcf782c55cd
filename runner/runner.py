"""The resident runner: claims jobs and runs them in threads, for as long as there are any."""

import logging
import os
import socket
import threading
import time
from collections import deque

import psycopg2

from odoo import SUPERUSER_ID, api
from odoo.modules.registry import Registry

from ..const import RUNNER_CHANNEL
from . import pool
from .call import Call
from .finisher import Finisher
from .lazy_cursor import LazyCursor
from .listener import Listener
from .workers import Workers

_logger = logging.getLogger(__name__)

#: Calls in flight at most; `ir.config_parameter` llm_generate_job.runner_slots changes it.
SLOTS = 64
#: External jobs asked about at the same time.
POLLERS = 8
#: Seconds between heartbeats; who is silent for LIFE_SIGN and has lost its lock is dead.
HEARTBEAT, LIFE_SIGN = 10.0, 45.0
#: Seconds without work after which the runner ends; the scheduled action starts the next.
LINGER = 60.0
#: Seconds that a stopping server's calls have to end by themselves.
GRACE = 20.0
#: Seconds between looks at whether the server is going down.
GLANCE = 1.0
#: Seconds between looks at whether modules or caches changed.
REGISTRY_CHECK = 1.0
#: Seconds between messages to the web clients: a busy queue must not flood them.
NEWS = 0.3
#: First key of the session lock that says "this runner lives"; the second is its id.
LIFE_LOCK = 1_819_110_253


class Runner(threading.Thread):
    """One thread that listens, claims and keeps house, and the threads that call providers.

    It is no daemon: Python waits for it at the end of the process, so that it can give back
    what it cannot finish.
    """

    def __init__(self, dbname):
        super().__init__(name=f"llm_generate_job.runner.{dbname}", daemon=False)
        self.dbname = dbname
        self.title = f"{socket.gethostname()}:{os.getpid()}"
        self.runner_id = None
        self.listener = None
        self.workers = None
        self.pollers = Workers(POLLERS, f"{self.name}.poll", self.wake)
        self.finisher = Finisher(f"{self.name}.finish", self._finish)
        self.outbox = deque()
        self.calls = {}
        self._stopping = threading.Event()
        self._ready = threading.Event()
        self._claiming = threading.Lock()
        self._due = dict.fromkeys(("upkeep", "news", "look"), 0.0)
        self._last_work = time.monotonic()
        self._registry = None
        self._checked_at = 0.0
        self._is_full = False

    # === LIFE === #

    def run(self):
        """Serve the queues until there is nothing to do or the server goes down."""
        _logger.info("Runner %s of %s starts", self.title, self.dbname)
        self.finisher.start()
        pause = 0.2
        while not self._is_over():
            try:
                self._serve()
            except psycopg2.Error as error:
                self._ready.clear()
                _logger.warning("Runner %s lost the database: %s", self.title, type(error).__name__)
            except Exception:
                _logger.exception("Runner %s failed, and starts over", self.title)
            if not self._is_over():
                time.sleep(pause)
                pause = min(5.0, pause * 2) if not self._ready.is_set() else 0.2
        pool.retire(self)
        _logger.info("Runner %s of %s ends", self.title, self.dbname)

    def _serve(self):
        with Listener(self.dbname, RUNNER_CHANNEL) as self.listener:
            self._register()
            while not self._is_over():
                self._tick()
            self._leave()

    def stop(self):
        """Take no more jobs, and end once the calls in flight have ended; does not wait."""
        self._stopping.set()
        self.wake()

    def wake(self):
        """Make the runner look at its queues now."""
        self._due["look"] = 0.0
        if self.listener is not None:
            self.listener.wake()

    def _worker_is_free(self):
        if self._is_full:  # otherwise nothing waited for a thread
            self.wake()

    def _is_busy(self):
        return bool(self.calls) or not self.finisher.is_idle

    def _is_over(self):
        # A worker process of Odoo says its end only by letting its main thread return.
        if self._registry is not None and "llm.generation.engine" not in self._registry:
            return True  # uninstalled
        return self._stopping.is_set() or not threading.main_thread().is_alive()

    def _register(self):
        slots = self._model("llm.generation.upkeep")._runner_slots(SLOTS)
        if self.workers is None:
            self.workers = Workers(slots, f"{self.name}.call", self._worker_is_free)
        self.runner_id = self._model("llm.generation.upkeep")._register_runner(
            self.title, slots, self.runner_id
        )
        self.listener.execute("SELECT pg_advisory_lock(%s, %s)", [LIFE_LOCK, self.runner_id])
        self._due = dict.fromkeys(self._due, 0.0)
        self._ready.set()

    def _leave(self):
        """Wait for the calls in flight, give back what is left, and sign off."""
        deadline = time.monotonic() + GRACE
        while self._is_busy() and time.monotonic() < deadline:
            self.listener.wait(0.1)
        claims = [call.claim for call in list(self.calls.values())]
        upkeep = self._model("llm.generation.upkeep")
        upkeep._give_back_claims(claims)
        for call in list(self.calls.values()):
            call.cancel()
        self._send_news()
        upkeep._sign_off(self.runner_id)

    # === WORK === #

    def _model(self, name, **context):
        """Return a model for short use; it holds no connection between its statements."""
        now = time.monotonic()
        if self._registry is None or now > self._checked_at + REGISTRY_CHECK:
            # Another process may have installed a module.
            self._checked_at = now
            self._registry = Registry(self.dbname).check_signaling()
        context = {"generation_outbox": self.outbox, **context}
        return api.Environment(LazyCursor(self._registry), SUPERUSER_ID, context)[name]

    def _tick(self):
        now = time.monotonic()
        if now >= self._due["upkeep"]:
            self._due["upkeep"] = now + HEARTBEAT
            self._keep_house()
        if now >= self._due["news"] and self.outbox:
            self._due["news"] = now + NEWS
            self._send_news()
        if now >= self._due["look"]:
            self._look()
        if self._is_busy():
            self._last_work = time.monotonic()
        elif time.monotonic() - self._last_work > LINGER:
            self._retire()
            return
        until = min(self._due.values() if self.outbox else (self._due["look"], self._due["upkeep"]))
        payloads = self.listener.wait(min(GLANCE, until - time.monotonic()))
        for payload in payloads:
            if payload.startswith("cancel:"):
                self._hang_up(payload.removeprefix("cancel:").split(","))
        if payloads:
            self._due["look"] = 0.0

    def _look(self):
        """Start what may start, poll what is due, and note when to look again."""
        upkeep = self._model("llm.generation.upkeep")
        upkeep._promote()
        upkeep._retry_due()
        if claims := upkeep._claim_polls(POLLERS * 4):
            for brief in self._model("llm.generation.preparation")._prepare(claims):
                self.pollers.submit(self._execute, brief, "_poll")
        for job_id in upkeep._claim_cancellations():
            self.pollers.submit(self._tell_cancelled, job_id)
        _started, wait = self._claim()
        waits = [wait, upkeep._next_due(), HEARTBEAT]
        seconds = min(wait for wait in waits if wait is not None)
        self._due["look"] = time.monotonic() + max(0.005, seconds)

    def claim(self, queue_ids=None):
        """Start jobs of these queues (None: of all) now.

        :return: how many were started
        """
        if not self._ready.wait(timeout=10.0):
            return 0
        return self._claim(queue_ids)[0]

    def _claim(self, queue_ids=None):
        started, wait = 0, None
        with self._claiming:
            while free := self.workers.free:
                model = self._model("llm.generation.preparation")
                claims, wait = model._claim(free, self.runner_id, self.title, queue_ids)
                for claim in claims:
                    self.calls[claim.token] = Call(claim)
                for brief in model._prepare(claims) if claims else ():
                    self.workers.submit(self._execute, brief, "_run")
                started += len(claims)
                if len(claims) < free:
                    break
            self._is_full = not self.workers.free
        if started:
            self._last_work = time.monotonic()
        return started, wait

    def _execute(self, brief, method):
        """Run or poll one job; the work of a worker thread."""
        token = brief.claim.token
        thread = threading.current_thread()
        thread.dbname, thread.uid = self.dbname, SUPERUSER_ID  # for Odoo's log
        try:
            model = self._model(
                "llm.generation.call",
                generation_call=self.calls.get(token),
                generation_finish=self.finisher.put,
            )
            getattr(model, method)(brief)
            model.env.registry.signal_changes()
        finally:
            self.calls.pop(token, None)

    def _finish(self, pairs):
        self._model("llm.generation.call")._finish(pairs)

    def _tell_cancelled(self, job_id):
        self._model("llm.generation.upkeep")._cancel_at_provider(job_id)

    def _hang_up(self, job_ids):
        cancelled = {int(job_id) for job_id in job_ids if job_id.isdigit()}
        for call in list(self.calls.values()):
            if call.claim.job_id in cancelled:
                call.cancel()

    def _keep_house(self):
        upkeep = self._model("llm.generation.upkeep")
        if not upkeep._heartbeat(self.runner_id):
            _logger.warning("Runner %s was taken for dead, and signs on again", self.title)
            self._register()
        upkeep._rescue(LIFE_SIGN, LIFE_LOCK)
        upkeep._fail_overdue()

    def _send_news(self):
        job_ids = set()
        while self.outbox:
            job_ids.add(self.outbox.popleft())
        if job_ids:
            self._model("llm.generation.upkeep")._send_news(sorted(job_ids))

    def _retire(self):
        """End for lack of work. A job that was queued at this very moment is not forgotten."""
        pool.retire(self)
        self._stopping.set()
        if self._model("llm.generation.upkeep")._has_work():
            pool.ensure(self.dbname)
