"""The resident runner: claims jobs and has them executed, for as long as there are any."""

import contextlib
import ctypes
import functools
import logging
import os
import socket
import threading
import time

import psycopg2
from psycopg2.pool import PoolError

from odoo.service import server
from odoo.tools import config

try:
    import resource
except ImportError:  # Windows, where there are no such limits
    resource = None

from ..const import RUNNER_CHANNEL, RUNNER_THREADS
from . import limits
from .cursor import LOCK_TIMEOUT, EngineCursor, sessions
from .executor import EnvironmentFactory, Executions, Threads, Workers
from .messages import Due, Hello, Lost, Queued, SlotFree, parse
from .notifier import Listener, Outbox, is_gone

_logger = logging.getLogger(__name__)

#: Seconds until a runner that lost the database tries again; it doubles while that does not help.
FIRST_PAUSE = 0.2
NEVER = float("-inf")
#: After a look at its queues a runner rests for as long as that took, and for so many seconds at
#: most: one that takes at once whatever is there takes crumbs, the smaller the busier the machine.
LONGEST_REST = 0.003


class Runner(threading.Thread):
    """One thread that listens, claims and maintains, and those that ask about external jobs.

    What it claims an `Executor` executes: its threads, unless an addon chooses otherwise.

    It is no daemon: Python waits for it at the end of the process, so that it can give back
    what it cannot finish.
    """

    def __init__(self, dbname):
        super().__init__(name=f"{RUNNER_THREADS}{dbname}", daemon=False)
        self.dbname = dbname
        self.title = f"{socket.gethostname()}:{os.getpid()}"
        self.runner_id = self._heartbeat = None
        self.listener = None
        self.threads = None
        self.pollers = Workers(limits.POLLERS, f"{self.name}.poll", self.wake)
        self.cancellers = Workers(limits.CANCELLERS, f"{self.name}.cancel", self.wake)
        self.errands = Workers(limits.ERRANDS, f"{self.name}.errand", self.wake)
        self.messenger = Workers(1, f"{self.name}.news", lambda: None)
        self.outbox = Outbox()
        self._models = EnvironmentFactory(dbname)
        self.executions = Executions(self._models, f"{self.name}.finish", self._wake_scheduler)
        self.heart = Heart(self.name, self._beat, self.executions.calls)
        self.executions.is_silent = lambda: self.heart.is_silent
        self._stopping = threading.Event()
        self._ready = threading.Event()
        self._claiming = threading.Lock()
        self._due = Timers("maintain", "outbox", "clock", "due", "claim", "fetch")
        self._woken = PendingQueues()
        self._last_work, self._rescues_at = time.monotonic(), NEVER
        self._is_full, self._may_retire, self._was_away = False, True, False
        self._begin_hearing()

    # === LIFE === #

    def run(self):
        """Serve the queues until there is nothing to do or the server goes down."""
        _logger.info("Runner %s of %s starts", self.title, self.dbname)
        self.heart.start()
        pause = FIRST_PAUSE
        while not self._is_over():
            began = time.monotonic()
            try:
                self._serve()
            except psycopg2.Error as error:
                self._ready.clear()
                # Whatever would start the next runner may have ended with the connection.
                self._may_retire = False
                self._was_away = True
                _logger.warning("Runner %s lost the database: %s", self.title, type(error).__name__)
                if is_gone(self.dbname):
                    self._stopping.set()  # it was dropped, or has another name now
            except BaseException:
                _logger.exception("Runner %s failed, and starts over", self.title)
            if not self._is_over():
                if time.monotonic() - began > limits.HEARTBEAT:
                    pause = FIRST_PAUSE  # it served: this is another loss
                time.sleep(pause)
                pause = min(5.0, pause * 2)
        retire(self)
        self.heart.stop()
        self.executions.stop()
        sessions().close(self.dbname)
        _logger.info("Runner %s of %s ends", self.title, self.dbname)

    def _serve(self):
        with Listener(self.dbname, RUNNER_CHANNEL) as self.listener:
            if newer := self._models.engine()._newer_than_tables():
                self._refuse(newer)
                return
            self._register()
            while not self._is_over():
                try:
                    self._tick()
                except (psycopg2.errors.LockNotAvailable, PoolError) as error:
                    _logger.info("Runner %s tries again: %s", self.title, type(error).__name__)
                    self._due.reset()
                    time.sleep(0.2)
            self._leave()

    def _refuse(self, newer):
        warn_of_old_tables(self.dbname, *newer)
        self._stopping.set()
        self._ready.set()  # nobody has to wait for it
        self.outbox.close()
        self._send_outbox()

    def stop(self):
        """Take no more jobs, and end once the calls in flight have ended; does not wait."""
        self._stopping.set()
        self.wake()

    def wake(self, queue_ids=()):
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
        engine = self._models.engine()
        if self.threads is None:
            slots = engine._runner_slots(limits.SLOTS)
            workers = Workers(slots, f"{self.name}.call", self._worker_is_free)
            self.threads = Threads(self._models, self.executions, workers)
        slots, began, before = self.threads.slots, time.monotonic(), self.runner_id
        with self._claiming:  # nothing is claimed in the name that it had
            self.runner_id = engine._register_runner(self.listener, self.title, slots, before)
        self._heartbeat = engine._heartbeat
        if before or self._was_away:
            # Perhaps the database was away for all: the others get time to say that they live.
            self._rescues_at = time.monotonic() + 2 * limits.HEARTBEAT
        self.heart.renewed(began)
        self._begin_hearing()
        self._due.reset()
        self._ready.set()

    def _begin_hearing(self):
        self._hears, self._noted_deaf, self._unheard, self._said_at = False, False, 0, NEVER

    def _beat(self):
        return self._heartbeat and beat(self.dbname, self._heartbeat, self.runner_id)

    def _executor(self):
        return self._models.engine()._executor(self.threads)

    def _leave(self):
        """Wait for the calls in flight, give back what is left, and unregister."""
        _lift_processor_limit()
        with self._claiming:
            deadline = time.monotonic() + limits.GRACE
        self.executions.hurry(deadline - limits.LAST_TRY)
        self._executor().leave(self.runner_id, deadline, self._hear)  # cancellations still count
        self.outbox.close()
        self._send_outbox()
        self._models.engine()._unregister_runner(self.runner_id)

    # === WORK === #

    def _tick(self):
        is_awake = not (self._woken.left and self._due.left("claim"))
        if is_awake and self._due.has_come("fetch"):
            began = time.monotonic()
            self._fetch()
            self._due.put_off("fetch", min(time.monotonic() - began, LONGEST_REST))
        # What waits for a slot, or for a provider's answer, does not hold this up.
        if self.outbox and self._due.has_come("outbox"):
            self._due.put_off("outbox", limits.OUTBOX_INTERVAL)
            if self.messenger.free:
                self.messenger.submit(self._send_outbox)
        if self._due.has_come("clock"):
            self._run_scheduler()
        if self._due.has_come("maintain"):
            self._due.put_off("maintain", limits.HEARTBEAT)
            self._maintain()
        if self._is_idle():
            self._retire()
            return
        self._wait()

    def _is_idle(self):
        if self.executions.calls:
            self._last_work = time.monotonic()
        if not self._may_retire or time.monotonic() - self._last_work <= limits.IDLE_TIMEOUT:
            return False
        if self._executor().is_busy(self.runner_id):
            self._last_work = time.monotonic()
            return False
        return True

    def _fetch(self):
        """Claim from the queues where something happened, and note when to look at all of them."""
        queue_ids = self._woken.take()
        if self._due.has_come("claim"):
            queue_ids = None
        if queue_ids is None:
            self._due.put_off("claim", limits.HEARTBEAT)
        self._claim(queue_ids)

    def _wait(self):
        """Wait until something is heard or due."""
        what = ("maintain", "clock", "claim", *(["outbox"] if self.outbox else []))
        left = min(self._woken.left, self._due.left(*what))
        self._hear(min(limits.POLL_INTERVAL, max(left, self._due.left("fetch"))))

    def _hear(self, timeout):
        heard = [parse(payload) for payload in self.listener.wait(timeout)]
        for message in heard:
            if isinstance(message, Hello):
                self._hears |= self.runner_id in message.ids
                continue
            self.executions.calls.hear(message)
            self._woken.hear(message, limits.SLOT_DELAY * self.threads.load)
            if isinstance(message, Lost):
                self._due.bring_forward("maintain", 0.0)
        if not all(isinstance(message, SlotFree | Hello) for message in heard):
            self._wake_scheduler()

    def _wake_scheduler(self):
        """Something may be due earlier than was known."""
        self._due.bring_forward("clock", limits.SCHEDULER_DELAY)

    def _run_scheduler(self):
        """Do what is due by time, and note when to look again."""
        engine = self._models.engine()
        self._due.put_off("clock", limits.HEARTBEAT)
        seconds = engine._next_due()
        if seconds == 0 or self._due.has_come("due"):  # perhaps a queue's pause is over
            self._woken.add()
        if seconds == 0:
            self._set_aside(engine._schedule)
            self._set_aside(engine._retry_due)
            busy = [poll.claim.provider_id for poll in list(self.executions.polls.values())]
            if (free := self.pollers.free) and (claims := engine._claim_polls(free, busy=busy)):
                for job_context in self._models.engine()._prefetch(claims):
                    self.executions.begin(self.pollers, job_context, "_poll")
            for job_id in engine._claim_cancellations(self.cancellers.free):
                self.cancellers.submit(engine._cancel_at_provider, job_id)
            if free := self.errands.free:
                for method, *args in engine._claim_errands(free):
                    self.errands.submit(getattr(self._models.engine(), method), *args)
            seconds = engine._next_due()
        self._due.put_off("due", limits.HEARTBEAT if seconds is None else seconds)
        # What is due and cannot be done now, as all threads are at it, must not make this spin.
        if seconds is not None:
            has_room = self.pollers.free and self.cancellers.free
            soon = limits.SCHEDULER_DELAY if has_room else limits.POLL_INTERVAL
            self._due.bring_forward("clock", max(seconds, soon))
            if seconds < limits.IDLE_TIMEOUT:
                self._last_work = time.monotonic()  # crons would be late for external jobs

    def _set_aside(self, act):
        """Do something that comes again, unless a row is locked that it needs."""
        try:
            act()
        except psycopg2.errors.LockNotAvailable:
            _logger.info("Runner %s met a locked row, and tries again later", self.title)

    def claim(self, queue_ids=None):
        """Start jobs of these queues (None: of all) now; return how many."""
        is_there = self._ready.wait(timeout=10.0) and self.threads
        return self._claim(queue_ids) if is_there else 0

    def _claim(self, queue_ids=None):
        started, free = 0, None
        with self._claiming:
            # A runner that leaves would unregister with what another thread claims for it.
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

    def _maintain(self):
        engine = self._models.engine()
        self.listener.listen()  # whatever became of it; and to hear if the connection is lost
        if not self.heart.renew():
            _logger.warning("Runner %s was taken for dead, and registers again", self.title)
            self._register()
        self._test_hearing(engine)
        with self._claiming:  # what is claimed just now is not lost
            held = self._executor().held(self.runner_id)
            self._set_aside(lambda: engine._rescue_lost(self.runner_id, held))
        if time.monotonic() >= self._rescues_at:
            self._set_aside(engine._rescue)
        self._set_aside(self._models.engine()._fail_overdue)
        polls = self.executions.polls
        polls.hang_up_on_old(limits.POLL_TIMEOUT)
        claims = [poll.claim for poll in list(polls.values())]
        self._set_aside(lambda: engine._renew_polls(claims))
        for given_up in engine._held_at_providers(self.cancellers.free):
            self.cancellers.submit(self._models.engine()._ask_about_held, *given_up)

    def _test_hearing(self, engine):
        """Have it known where nothing that the database says is heard.

        A connection that a pooler lends for a transaction hears what is said during that.
        """
        if not self._hears and time.monotonic() >= self._said_at + limits.HEARTBEAT / 2:
            engine._say_hello(self.runner_id)
            self._said_at, self._unheard = time.monotonic(), self._unheard + 1
        is_deaf = not self._hears and self._unheard > limits.UNHEARD
        if is_deaf != self._noted_deaf:
            engine._note_hearing(self.runner_id, is_deaf=is_deaf)
            self._noted_deaf = is_deaf
            if is_deaf:
                _logger.warning(
                    "Runner %s hears nothing that the database says: jobs start up to %g seconds"
                    " late. Is there a pooler that lends connections by transaction?",
                    self.title, limits.HEARTBEAT,
                )  # fmt: skip

    def _send_outbox(self):
        self.outbox.send(self._models.engine()._send_outbox)

    def _retire(self):
        """End for lack of work. A job that was queued at this very moment is not forgotten."""
        retire(self)
        self._stopping.set()
        if self._models.engine()._has_work():
            ensure(self.dbname)


# === HEART ===


class Heart(threading.Thread):
    """Renews a runner's heartbeat where its own thread is late, and notices when nobody can.

    Others take the jobs of who is silent for long: before they may, its calls are stopped. This
    thread only looks at the time and at the end of the process, and waits for nothing.
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
        """Look five times a second, until `stop()`."""
        due = 0.0
        while not self._stopped.wait(limits.POLL_INTERVAL / 5):
            _lift_processor_limit()  # the runner may see the process end a second later: too late
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


def beat(dbname, heartbeat, runner_id):
    """Renew a runner's heartbeat; return whether it still counts.

    :param heartbeat: `llm.generation.engine._heartbeat`
    """
    with EngineCursor(dbname, LOCK_TIMEOUT) as cr:
        return heartbeat(cr, runner_id)


# === THE RUNNERS OF THIS PROCESS ===

#: Parameter of glibc's mallopt(3).
M_ARENA_MAX = -8

_runners = {}
_guard = threading.Lock()
_stopping = threading.Event()


def running(dbname):
    """Return this process's runner for the database that takes new jobs, None for none."""
    return _runners.get((os.getpid(), dbname))


def is_stopping():
    """Return whether this process ends, and takes no more jobs."""
    return _stopping.is_set()


def ensure(dbname):
    """Return this process's runner for the database, starting one if there is none.

    None in a process that ends: see `is_stopping()`.
    """
    key = (os.getpid(), dbname)
    with _guard:
        if is_stopping():
            return None
        runner = _runners.get(key)
        if runner is None:
            _spare_address_space()
            runner = Runner(dbname)
            runner.start()  # which may fail for lack of memory
            _runners[key] = runner
        return runner


def starts_by_itself():
    """Return whether this process may have a runner without a scheduled action's starting it.

    A threaded server may, and has to: when PostgreSQL restarts, its threads for scheduled
    actions end, and nothing starts them again.
    """
    return (
        isinstance(server.server, server.ThreadedServer)
        and server.server.httpd is not None
        and config["max_cron_threads"] > 0
        and not config["test_enable"]
        and not is_stopping()
    )


@functools.cache
def warn_without_cron():
    """Say once in the log that this server runs no jobs, where that is so."""
    if not config["max_cron_threads"] and not config["test_enable"]:
        _logger.warning(
            "Jobs wait for another server of the database: this one has no cron thread"
            " (max_cron_threads), and runs none"
        )


@functools.cache
def warn_of_old_tables(dbname, *modules):
    """Say once in the log that this process runs no jobs, as its code is newer than the tables."""
    _logger.warning(
        "Jobs of %s do not run here: the code is newer than the database. Upgrade it: -u %s",
        dbname, ",".join(modules),
    )  # fmt: skip


def _spare_address_space():
    """Keep glibc from giving each thread 64 MiB of addresses to allocate from.

    Odoo's memory limits count addresses, not memory. It does the same for its threaded server;
    worker processes would end and start again all the time.
    """
    with contextlib.suppress(OSError, AttributeError):  # another libc has no such thing
        ctypes.CDLL("libc.so.6").mallopt(ctypes.c_int(M_ARENA_MAX), ctypes.c_int(2))


def _lift_processor_limit():
    """Have the kernel end no process that waits for its calls.

    Odoo ends a worker at the first SIGXCPU. The next one, a second of work later, would interrupt
    what waits for this thread, and Python would end under it.
    """
    # Where it lives on, Odoo's limit is there for the requests that it answers.
    if resource and not threading.main_thread().is_alive():
        hard = resource.getrlimit(resource.RLIMIT_CPU)[1]
        resource.setrlimit(resource.RLIMIT_CPU, (hard, hard))


def retire(runner):
    """Forget a runner: from now on the next job starts another one."""
    with _guard:
        key = (os.getpid(), runner.dbname)
        if _runners.get(key) is runner:
            del _runners[key]


def stop_all():
    """Ask the runners of this process to end, and wait until they have.

    A threaded server closes its database connections next, also those in use: what a call is
    just writing would be lost, and with it an answer that is paid for. One that reloads itself
    ends its threads at once.
    """
    with _guard:  # whoever starts a runner just now
        _stopping.set()
    threads = [thread for threads_of in ENDING for thread in list(threads_of())]
    for thread in threads:
        thread.stop()
    deadline = time.monotonic() + limits.GRACE + limits.LEAVE_TIMEOUT
    while any(thread.is_alive() for thread in threads) and time.monotonic() < deadline:
        # A join() would not hear a second SIGTERM, which ends the process at once; a second SIGHUP
        # only raises this, and would end what is to reload.
        with contextlib.suppress(KeyboardInterrupt):
            time.sleep(0.05)


#: What gives threads of this process to stop as the server ends, each with a `stop()` that does
#: not wait.
ENDING = [_runners.values]
server.CommonServer.on_stop(stop_all)


# === TIMERS ===


class Timers:
    """The next time of each thing to do; any thread may bring one forward, none gets lost."""

    def __init__(self, *names, clock=time.monotonic):
        self._clock = clock
        self._lock = threading.Lock()
        self._at = dict.fromkeys(names, float("-inf"))

    def reset(self):
        """Have everything done now."""
        with self._lock:
            self._at = dict.fromkeys(self._at, float("-inf"))

    def has_come(self, name):
        """Return whether it is time for something."""
        return self._clock() >= self._at[name]

    def put_off(self, name, seconds):
        """Have something done in so many seconds, however soon it was due.

        Do it before what takes time: what is brought forward meanwhile stays so.
        """
        with self._lock:
            self._at[name] = self._clock() + seconds

    def bring_forward(self, name, seconds):
        """Have something done in so many seconds, unless it is due sooner."""
        with self._lock:
            self._at[name] = min(self._at[name], self._clock() + seconds)

    def left(self, *names):
        """Return the seconds until the first of these is due, 0 where one is."""
        return max(0.0, min(self._at[name] for name in names) - self._clock())


# === PENDING QUEUES ===


class PendingQueues:
    """Queues to look at, each from a time on; any thread may add to it. None stands for all."""

    def __init__(self, clock=time.monotonic):
        self._clock = clock
        self._lock = threading.Lock()
        self._at = {}

    def set_later(self, waits):
        """Have queues looked at after a wait each, which takes the place of an earlier one.

        :param dict waits: seconds by queue; what is due by now stays so
        """
        now = self._clock()
        with self._lock:
            due = {queue_id for queue_id, at in self._at.items() if at <= now}
            self._at |= {each: now + wait for each, wait in waits.items() if each not in due}

    def add(self, queue_ids=(), delay=0.0):
        """Have queues looked at: all of them, and now, where none is named.

        :param float delay: seconds until then; a queue that is due sooner stays so
        """
        at = self._clock() + (delay if queue_ids else 0.0)
        with self._lock:
            self._at |= {each: min(at, self._at.get(each, at)) for each in queue_ids or (None,)}

    def hear(self, message, slot_delay=0.0):
        """Have looked at what a message is about: a `Due` is about the clock only.

        :param float slot_delay: seconds that `SlotFree` waits: the process that says it looks first
        """
        if isinstance(message, Queued):
            self.add(message.ids, slot_delay if isinstance(message, SlotFree) else 0.0)
        elif not isinstance(message, Due | Hello):
            self.add()

    @property
    def left(self):
        """Seconds until there is something to look at, 0 for now, infinite where nobody knows."""
        with self._lock:
            first = min(self._at.values(), default=float("inf"))
        return max(0.0, first - self._clock())

    def take(self):
        """Return the ids of the queues to look at now, None for all, and forget them."""
        with self._lock:
            now = self._clock()
            due = {queue_id for queue_id, at in self._at.items() if at <= now}
            self._at = {each: at for each, at in self._at.items() if each not in due}
        return None if None in due else sorted(due)
