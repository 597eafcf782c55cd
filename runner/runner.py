"""The resident runner: claims jobs and has them executed, for as long as there are any."""

import logging
import os
import socket
import threading
import time

import psycopg2

from ..const import RUNNER_CHANNEL, RUNNER_THREADS
from . import limits, pool
from .conversations import Conversations
from .deadlines import Deadlines
from .executor import Threads
from .listener import Listener
from .news import News
from .pace import Pace
from .short_use import Models
from .wakeup import Wakeup
from .workers import Workers

_logger = logging.getLogger(__name__)


class Runner(threading.Thread):
    """One thread that listens, claims and keeps house, and those that ask about external jobs.

    What it claims an `Executor` executes: its threads, unless an addon chooses otherwise.

    It is no daemon: Python waits for it at the end of the process, so that it can give back
    what it cannot finish.
    """

    def __init__(self, dbname):
        super().__init__(name=f"{RUNNER_THREADS}{dbname}", daemon=False)
        self.dbname = dbname
        self.title = f"{socket.gethostname()}:{os.getpid()}"
        self.runner_id = None
        self.listener = None
        self.threads = None
        self.pollers = Workers(limits.POLLERS, f"{self.name}.poll", self.wake)
        self.messenger = Workers(1, f"{self.name}.news", lambda: None)
        self.outbox = News()
        self._models = Models(dbname, generation_outbox=self.outbox)
        self.conversations = Conversations(
            self._models, f"{self.name}.finish", self._expect_the_clock
        )
        self._stopping = threading.Event()
        self._ready = threading.Event()
        self._claiming = threading.Lock()
        self._due = Deadlines("upkeep", "news", "clock", "due", "claim")
        self._woken = Wakeup()
        self._last_work = time.monotonic()
        self._is_full, self._may_retire = False, True
        self._pace = Pace()

    # === LIFE === #

    def run(self):
        """Serve the queues until there is nothing to do or the server goes down."""
        _logger.info("Runner %s of %s starts", self.title, self.dbname)
        self.conversations.start()
        pause = 0.2
        while not self._is_over():
            try:
                self._serve()
            except psycopg2.Error as error:
                self._ready.clear()
                # Whatever would start the next runner may have ended with the connection.
                self._may_retire = False
                _logger.warning("Runner %s lost the database: %s", self.title, type(error).__name__)
            except Exception:
                _logger.exception("Runner %s failed, and starts over", self.title)
            if not self._is_over():
                time.sleep(pause)
                pause = min(5.0, pause * 2) if not self._ready.is_set() else 0.2
        pool.retire(self)
        self.conversations.stop()
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
        self._woken.set()
        if self.listener is not None:
            self.listener.wake()

    def look_at(self, queue_ids):
        """Make the runner look at some queues now, at all of them where none is named."""
        self._woken.add(queue_ids)
        if self.listener is not None:
            self.listener.wake()

    def _worker_is_free(self):
        if self._is_full:  # otherwise nothing waited for a thread
            self.wake()

    def _is_over(self):
        # A worker process of Odoo says its end only by letting its main thread return.
        if not self._models.are_installed:
            return True
        return self._stopping.is_set() or not threading.main_thread().is_alive()

    def _register(self):
        life = self._models.get("llm.generation.life")
        if self.threads is None:
            slots = life._runner_slots(limits.SLOTS)
            workers = Workers(slots, f"{self.name}.call", self._worker_is_free)
            self.threads = Threads(self._models, self.conversations, workers)
        slots = self.threads.slots
        self.runner_id = life._sign_on(self.listener, self.title, slots, self.runner_id)
        self._due.reset()
        self._ready.set()

    def _executor(self):
        return self._models.get("llm.generation.life")._executor(self.threads)

    def _leave(self):
        """Wait for the calls in flight, give back what is left, and sign off."""
        with self._claiming:
            deadline = time.monotonic() + limits.GRACE
        self._executor().leave(self.runner_id, deadline, self.listener.wait)
        self.outbox.close()
        self._send_news()
        self._models.get("llm.generation.life")._sign_off(self.runner_id)

    # === WORK === #

    def _tick(self):
        if not (self._woken.left and self._due.left("claim")) and not self._pace.rest:
            self._pace.begin()
            self._look()
            self._pace.end()
        # What waits for a slot, or for a provider's answer, does not hold this up.
        if self.outbox and self._due.has_come("news"):
            self._due.put_off("news", limits.NEWS)
            if self.messenger.free:
                self.messenger.submit(self._send_news)
        if self._due.has_come("clock"):
            self._obey_the_clock()
        if self._due.has_come("upkeep"):
            self._due.put_off("upkeep", limits.HEARTBEAT)
            self._keep_house()
        if self._is_idle():
            self._retire()
            return
        self._wait()

    def _is_idle(self):
        if self.conversations.calls:
            self._last_work = time.monotonic()
        if not self._may_retire or time.monotonic() - self._last_work <= limits.LINGER:
            return False
        if self._executor().is_busy(self.runner_id):
            self._last_work = time.monotonic()
            return False
        return True

    def _look(self):
        """Claim from the queues where something happened, and note when to look at all of them."""
        queue_ids = self._woken.take()
        if self._due.has_come("claim"):
            queue_ids = None
        if queue_ids is None:
            self._due.put_off("claim", limits.HEARTBEAT)
        self._claim(queue_ids)

    def _wait(self):
        """Wait until something is heard or due."""
        what = ("upkeep", "clock", "claim", *(["news"] if self.outbox else []))
        left = min(self._woken.left, self._due.left(*what))
        self._hear(min(limits.GLANCE, max(left, self._pace.rest)))

    def _hear(self, timeout):
        payloads = self.listener.wait(timeout)
        for payload in payloads:
            self.conversations.calls.hear(payload)
            self._woken.hear(payload, limits.SLOT_DELAY * self.threads.load)
            if payload == "lost":  # somebody knows of jobs that nobody executes any more
                self._due.bring_forward("upkeep", 0.0)
        if not all(payload.startswith("slot:") for payload in payloads):
            self._expect_the_clock()

    def _expect_the_clock(self):
        """Something may be due earlier than was known."""
        self._due.bring_forward("clock", limits.CLOCK_DELAY)

    def _obey_the_clock(self):
        """Do what is due by time, and note when to look again."""
        upkeep = self._models.get("llm.generation.upkeep")
        self._due.put_off("clock", limits.HEARTBEAT)
        seconds = upkeep._next_due()
        if seconds == 0 or self._due.has_come("due"):  # perhaps a queue's pause is over
            self._woken.set()
        if seconds == 0:
            upkeep._promote()
            upkeep._retry_due()
            if (free := self.pollers.free) and (claims := upkeep._claim_polls(free)):
                for brief in self._models.get("llm.generation.preparation")._prepare(claims):
                    self.pollers.submit(self.conversations.hold, brief, "_poll")
            for job_id in upkeep._claim_cancellations():
                self.pollers.submit(upkeep._cancel_at_provider, job_id)
            seconds = upkeep._next_due()
        self._due.put_off("due", limits.HEARTBEAT if seconds is None else seconds)
        # What is due and cannot be done now, as all pollers are at it, must not make this spin.
        if seconds is not None:
            self._due.bring_forward("clock", max(seconds, limits.CLOCK_DELAY))
            if seconds < limits.LINGER:
                self._last_work = time.monotonic()  # crons would be late for external jobs

    def claim(self, queue_ids=None):
        """Start jobs of these queues (None: of all) now; return how many."""
        return self._claim(queue_ids) if self._ready.wait(timeout=10.0) else 0

    def _claim(self, queue_ids=None):
        started, free = 0, None
        with self._claiming:
            # A runner that leaves would sign off with what another thread claims for it.
            while not self._is_over() and (free := (executor := self._executor()).free):
                count, work, waits = executor.take(free, self.runner_id, self.title, queue_ids)
                self._woken.set_later(waits)
                executor.start(work)
                started += count
                if count < free:
                    break
            # Set before the look: a thread that is freed later wakes, one that is free is seen.
            self._is_full = True
            if self.threads.free:
                self._is_full = False
                if free == 0:
                    self.wake()
        self._last_work = time.monotonic() if started else self._last_work
        return started

    def _keep_house(self):
        life = self._models.get("llm.generation.life")
        if not life._heartbeat(self.runner_id):
            _logger.warning("Runner %s was taken for dead, and signs on again", self.title)
            self._register()
        with self._claiming:  # what is claimed just now is not lost
            life._give_back_lost(self.runner_id, self._executor().held(self.runner_id))
        life._rescue(limits.LIFE_SIGN, limits.LIFE_LOCK)
        self._models.get("llm.generation.upkeep")._fail_overdue()

    def _send_news(self):
        self.outbox.send(self._models.get("llm.generation.upkeep")._send_news)

    def _retire(self):
        """End for lack of work. A job that was queued at this very moment is not forgotten."""
        pool.retire(self)
        self._stopping.set()
        if self._models.get("llm.generation.upkeep")._has_work():
            pool.ensure(self.dbname)
