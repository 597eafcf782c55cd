"""Where claimed jobs are executed: the interface, and the threads of the resident runner."""

import contextlib
import logging
import math
import queue
import socket
import threading
import time
from abc import ABC, abstractmethod
from collections import Counter
from dataclasses import dataclass, field

import psycopg2

from odoo import SUPERUSER_ID, api
from odoo.modules.registry import Registry

from ..const import UNKNOWN_OUTCOMES
from ..exceptions import OverloadedError
from ..protocol.answer import NO_WORD, Answer, Claim, finish_reason_of
from ..protocol.bounded_http import hung_up_by
from ..protocol.http_errors import classify, retry_after, traceback_of
from ..protocol.tokens import GIVEN_NAMES, Usage
from . import limits
from .cursor import LazyCursor
from .messages import Cancelled

_logger = logging.getLogger(__name__)


class Executor(ABC):
    """Executes what a runner claims; the runner does not know how.

    The runner asks `llm.generation.engine._executor()` for the one to use, each time that it claims
    or maintains: an addon that is installed or configured meanwhile counts from then on. So an
    executor is cheap to make, and what it has to remember is in the database or in `Threads`.
    Questions to providers about external jobs, and the news, are the runner's own: they are no
    execution of a job.
    """

    @property
    @abstractmethod
    def free(self):
        """How many more jobs could start now."""

    @abstractmethod
    def take(self, slots, runner_id, runner_name, queue_ids=None):
        """Claim jobs; what is claimed is committed.

        :param int slots: jobs to claim at most
        :param list queue_ids: the queues to look at, None for all
        :return: how many were claimed, what `start()` wants of them, and when to look again:
            `{queue id: seconds}`, as in `_claim()` of the engine
        """

    @abstractmethod
    def start(self, work):
        """Execute what `take()` returned; does not wait for it.

        What is not started as an error is raised is none of `held()` either, by which it is found
        and given back.
        """

    @abstractmethod
    def held(self, runner_id):
        """Return the tokens of the runner's claims that are being executed, or will be.

        What else is running in the runner's name is lost, and given back.
        """

    @abstractmethod
    def is_busy(self, runner_id):
        """Return whether the runner has to stay for what it has claimed."""

    @abstractmethod
    def leave(self, runner_id, deadline, wait):
        """Give back, as the runner ends, what nobody else will finish.

        :param float deadline: by `time.monotonic()`, until when what runs may end by itself
        :param wait: waits so many seconds
        """


class Threads(Executor):
    """Executes jobs in threads of this process.

    A runner keeps its threads for as long as it lives, whatever executes what it claims now.
    """

    def __init__(self, models, executions, workers):
        """Take the threads.

        :param EnvironmentFactory models: gives the engine for short use
        :param Executions executions: what the threads do
        :param Workers workers: the threads
        """
        self._models = models
        self._executions = executions
        self._workers = workers
        self._calls = executions.calls

    @property
    def slots(self):
        """How many jobs run at once, at most."""
        return self._workers.size

    @property
    def free(self):
        return self._workers.free

    @property
    def load(self):
        """The share of them that are taken, from 0 to 1."""
        return 1 - self.free / max(1, self.slots)

    def take(self, slots, runner_id, runner_name, queue_ids=None):
        busy = self._calls.providers()
        return self._models.engine()._take(slots, runner_id, runner_name, queue_ids, busy)

    def start(self, work):
        for job_context in work:
            self._executions.begin(self._workers, job_context, "_run")

    def held(self, runner_id):
        return list(self._calls)

    def is_busy(self, runner_id):
        return bool(self._calls)

    def leave(self, runner_id, deadline, wait):
        self._calls.wind_up(self._models.engine(), deadline, wait)


# === EXECUTIONS ===
# A call in flight, and how to hang up on it from another thread.


class Execution:
    """What a runner knows of a job that one of its threads works on."""

    def __init__(self, claim):
        self.claim = claim
        self._lock = threading.Lock()
        self._responses = []
        self.cancelled = False
        self.pause = None
        #: By `time.monotonic()`, from when on its answer is stored without what locked rows keep
        #: back.
        self.last_from = math.inf
        #: Seconds that the call has to end by itself once it is cancelled.
        self.patience = 0.0
        self.began_at = time.monotonic()
        #: Set once its answer is stored, or nothing will come of it.
        self.is_over = threading.Event()

    @property
    def context(self):
        """By which the code of a provider finds it, where no job asks."""
        return {"generation_execution": self, "llm_on_response": self.on_response}

    def on_response(self, response):
        """Note an open HTTP response, or its connection, to be closed when the job is cancelled.

        Its headers may say that the allowance is used up, and for how long: that is `pause`.
        Providers find this in their context as `llm_on_response`. The clients of
        `protocol/bounded_http.py` tell it of each connection, before anything is sent.

        :param response: one of `requests`, or a provider's own with a `close()` that wakes its
            reader and, where they are known, `headers`
        """
        wait = retry_after(getattr(response, "headers", {}))
        self.began_at = time.monotonic()  # each file of an answer may take as long as a question
        with self._lock:
            self._responses.append(response)
            self.pause = max(self.pause or 0.0, wait) if wait else self.pause
            cancelled = self.cancelled
        if cancelled:
            hang_up(response)

    def cancel(self):
        """Hang up: the thread that reads gets an error at once."""
        if self.patience:
            timer = threading.Timer(self.patience, self.hang_up)
            timer.daemon = True
            timer.start()
        else:
            self.hang_up()

    def hang_up(self):
        """Hang up at once, also on what is submitted just now."""
        with self._lock:
            self.cancelled = True
            responses, self._responses = self._responses, []
        for response in responses:
            hang_up(response)


@contextlib.contextmanager
def hung_up_after(seconds, claim=None):
    """Yield an `Execution` for calls of this thread, on which nobody else hangs up.

    Its context is for the code of the provider; see `Execution.on_response()`.

    :param claim: the job's that is asked about, where it is one
    """
    execution = Execution(claim or Claim(0, 0, timeout=seconds))
    timer = threading.Timer(seconds, execution.hang_up)
    timer.daemon = True
    timer.start()
    try:
        with hung_up_by(execution.on_response):
            yield execution
    finally:
        timer.cancel()


class Running(dict):
    """The calls of a runner, by the tokens of their claims."""

    def add(self, claim):
        """Note that a thread is to work on a job, and return the call."""
        call = self[claim.token] = Execution(claim)
        return call

    def pop(self, token, default=None):
        """Forget a call, and tell who waits for its end."""
        call = super().pop(token, default)
        if call is not None:
            call.is_over.set()
        return call

    def providers(self):
        """Return how many calls each provider has, as a `Counter` by id."""
        return Counter(call.claim.provider_id for call in list(self.values()))

    def hang_up_on_old(self, seconds):
        """Hang up on the calls that began more than so many seconds ago."""
        for call in list(self.values()):
            if time.monotonic() > call.began_at + seconds:
                call.hang_up()

    def wind_up(self, engine, deadline, wait):
        """Let calls end by themselves until a deadline; give back and hang up on what is left.

        :param engine: the model `llm.generation.engine`
        :param float deadline: by `time.monotonic()`
        :param wait: waits so many seconds
        """
        while self and time.monotonic() < deadline:
            wait(0.1)
        calls = list(self.values())
        engine._snooze_claims([call.claim for call in calls])
        for call in calls:
            call.hang_up()
        # Each that is back frees its slot for another server.
        deadline = time.monotonic() + limits.HANG_UP
        while self and time.monotonic() < deadline:
            wait(0.1)

    def hear(self, message):
        """Hang up on the jobs that a message says were cancelled."""
        if isinstance(message, Cancelled):
            job_ids = set(message.ids)
            for call in list(self.values()):
                if call.claim.job_id in job_ids:
                    call.cancel()


def hang_up(response):
    """Close a response that another thread may be reading.

    Closing a socket does not wake who reads from it; shutting it down does.
    """
    if not hasattr(response, "raw"):  # none of `requests`: it knows best how to be closed
        # A provider's own code, whatever it raises; the job has ended anyway.
        with contextlib.suppress(BaseException):
            response.close()
        return
    # Not the connection's: urllib3 lets go of that once the headers are read. Its own `shutdown()`
    # is younger than what Odoo asks for.
    reader = getattr(getattr(response.raw, "_fp", None), "fp", None)
    if sock := getattr(getattr(reader, "raw", None), "_sock", None):
        with contextlib.suppress(OSError):
            sock.shutdown(socket.SHUT_RDWR)


# === THE EXECUTOR'S THREADS ===
# What threads of this process say to providers, and what becomes of the answers.


SILENT = "This server has lost its database."


class Executions:
    """Runs and polls claimed jobs in the thread of whoever asks, and has the answers stored.

    `calls` has what runs, until its answer is stored.
    """

    def __init__(self, models, name, on_end):
        """Take what gives the engine.

        :param EnvironmentFactory models: gives it for short use
        :param str name: that of the thread that stores answers
        :param on_end: called, without arguments, each time something has ended of which more may
            come: a retry, or a question to the provider
        """
        self._models = models
        self._on_end = on_end
        self.calls = Running()
        self._name = name
        self._lock = threading.Lock()
        self._completers = {}
        self._last_from = math.inf
        #: Whether others may have taken the jobs of this process: then no call is begun.
        self.is_silent = lambda: False
        #: The questions about external jobs.
        self.polls = Running()

    def _completer(self, provider_id):
        """Return the thread for a provider: none waits for what another one's answers touch."""
        with self._lock:
            if not (completer := self._completers.get(provider_id)):
                name = f"{self._name}.{provider_id}"
                completer = Completer(name, self._finish, self.calls)
                completer.last_from = self._last_from
                completer.dbname = self._models.dbname  # for Odoo's log
                completer.start()
                self._completers[provider_id] = completer
            return completer

    def hurry(self, last_from):
        """Have answers stored, from then on, without what locked rows keep back.

        :param float last_from: by `time.monotonic()`
        """
        with self._lock:
            self._last_from = last_from
            for each in (*self._completers.values(), *self.calls.values()):
                each.last_from = last_from

    def stop(self):
        """Store what there is and end; does not wait."""
        with self._lock:
            for completer in self._completers.values():
                completer.stop()

    def begin(self, workers, job_context, method):
        """Have one of these workers speak with the provider, see `execute()`."""
        calls = self.polls if method == "_poll" else self.calls
        calls.add(job_context.claim)
        try:
            workers.submit(self.execute, job_context, method)
        except RuntimeError:  # no thread is to be had: what is not in `calls` is not held
            calls.pop(job_context.claim.token, None)
            raise

    def execute(self, job_context, method):
        """Speak with the provider about one job.

        :param str method: of the engine: `_run` or `_poll`
        """
        token = job_context.claim.token
        thread = threading.current_thread()
        thread.dbname, thread.uid = self._models.dbname, SUPERUSER_ID  # for Odoo's log
        handed_over = False

        def complete(claim, answer):
            nonlocal handed_over
            handed_over = True
            self._completer(job_context.provider_id).put(claim, answer)

        try:
            if self.is_silent():
                complete(job_context.claim, Answer.from_error(OverloadedError(SILENT)))
                return
            engine = self._models.engine()
            execution = self.calls.get(token) or self.polls.get(token)
            getattr(engine, method)(job_context, execution=execution, complete=complete, lent=True)
            engine.env.registry.signal_changes()
        finally:
            self.polls.pop(token, None)
            if not handed_over:
                self.calls.pop(token, None)
                self._on_end()

    def _finish(self, pairs, is_last):
        held = []
        try:
            held = self._models.engine()._complete_batch(pairs, lent=True, is_last=is_last)
        finally:
            for claim in {claim for claim, _answer in pairs} - {claim for claim, _answer in held}:
                self.calls.pop(claim.token, None)
            if any(answer.state != "completed" or answer.external_job_id for _, answer in pairs):
                self._on_end()
        return held


# === COMPLETER ===

#: Answers stored in one transaction at most.
BATCH = 200
#: Seconds to wait for the next one: calls that began together end together.
GATHER = 0.001
#: Seconds that the first one waits at most.
LONGEST_GATHER = 0.02
#: Seconds until an answer is tried again whose job somebody is changing; and how many times as
#: long as the last try took at least, which waits a moment for other rows.
HELD, HELD_FACTOR = 0.05, 4


class Completer(threading.Thread):
    """Takes `(claim, answer)` pairs from the calls' threads and hands them to `store()`.

    That gets the pairs, and whether they are tried for the last time, and returns those to try
    again: a business transaction that holds one job for minutes does not hold up all others.
    """

    def __init__(self, name, store, calls):
        """Make a thread.

        :param calls: what is in flight, or waits here; nothing more can come than it has
        """
        super().__init__(name=name, daemon=True)
        self._store = store
        self._calls = calls
        self._queue = queue.SimpleQueue()
        self._held, self._again_at = [], 0.0
        #: By `time.monotonic()`, from when on each try is the last one.
        self.last_from = math.inf

    def put(self, claim, answer):
        """Have an answer stored soon."""
        self._queue.put((claim, answer))

    def stop(self):
        """End once everything that was put before is stored; does not wait."""
        self._queue.put(None)

    def run(self):
        """Store what comes, until `stop()`."""
        is_over = False
        while not is_over:
            left = max(0.0, min(self._again_at, self.last_from) - time.monotonic())
            pairs = self._gather((left or HELD) if self._held else None)
            is_over = None in pairs
            self._held += self._try([pair for pair in pairs if pair])
            if self._held and (is_over or time.monotonic() >= min(self._again_at, self.last_from)):
                self._try_held()

    def _try_held(self):
        """Try one of them; the others as well where nothing is in its way any more."""
        first, *others = self._held
        self._held = (others + again) if (again := self._try([first])) else self._try(others)

    def _try(self, pairs):
        """Store pairs; return those to try again."""
        if not pairs:
            return []
        held, began = [], time.monotonic()
        try:
            held = self._store(pairs, began >= self.last_from) or []
        except BaseException as error:  # noqa: BLE001 whatever it is
            # The thread must go on: everything that ends later passes through here.
            told = traceback_of(error)
            _logger.error("%s answers were lost\n%s", len(pairs), told)  # noqa: TRY400 redacted
        now = time.monotonic()
        self._again_at = now + max(HELD, HELD_FACTOR * (now - began))
        return held

    def _gather(self, timeout):
        """Return what comes until nothing more does: a busy stream of answers is stored in
        batches, not in crumbs. Nothing comes of it when the first is not there in time."""
        try:
            pairs = [self._queue.get(timeout=timeout)]
        except queue.Empty:
            return []
        latest = time.monotonic() + LONGEST_GATHER
        while len(pairs) < min(BATCH, len(self._calls)) and time.monotonic() < latest:
            try:
                pairs.append(self._queue.get(timeout=GATHER))
            except queue.Empty:
                break
        return pairs


# === WORKERS ===

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
            except BaseException as error:  # noqa: BLE001 a SystemExit ends no thread of ours
                told = traceback_of(error)
                _logger.error("A worker of %s failed\n%s", self.name, told)  # noqa: TRY400 redacted
            finally:
                with self._lock:
                    self._busy -= 1
                self._on_free()


# === CALL RECORDER ===


class CallRecorder:
    """Goes with the context of what is asked, as `generation_recorder`: by a job, or directly.

    It tells an error of the provider from one of the code around it, and counts what the
    provider used over all calls for the answer.
    """

    def __init__(self, *, is_direct=False, is_repeatable=False):
        """Take what is special about it.

        :param bool is_direct: whether nobody but the caller tries again: no job asks
        :param bool is_repeatable: whether the same can be asked again at no cost
        """
        self.is_direct = is_direct
        self.is_repeatable = is_repeatable
        #: By which others hang up on the call, None where nobody does.
        self.execution = None
        self.has_asked = False
        #: By `time.monotonic()`, when the newest call began.
        self.asked_at = -math.inf
        #: Whether any code of a provider was called that may have asked it.
        self.has_begun = False
        #: What the newest call raised, whatever the code around it made of that.
        self.error = None
        #: The job that a provider's code is asked about, while it is.
        self.job = None
        #: The id of the thread that a job answers in.
        self.thread_id = None
        #: The messages that are answered, by thread: what is said meanwhile belongs to them.
        self.questions = {}
        #: What surrounds each wait for a provider.
        self.away = contextlib.nullcontext
        #: What the provider's code wrote on the job: its answer, told another way.
        self.written = {}
        #: The most tokens of an answer, and the name of the argument that tells the service.
        self.limit = None
        #: The arguments of a chat that the inputs of the job have, besides that.
        self.inputs = {}
        #: Stores a file that comes with an answer, where the code of a thread does not.
        self.store = None
        #: How the newest answer ended, a key of `FINISH_REASONS`; None where nobody tells.
        self.finish_reason = None
        #: How many tokens the database knows of.
        self.noted = 0
        self._calls = []
        self._has_refused = False

    @contextlib.contextmanager
    def listening(self):
        """Note what a provider's code raises.

        What is no `Exception` leaves as one for a job: `asyncio.CancelledError`, `SystemExit` and
        the like would pass through all code around it, and take the thread with them.
        """
        try:
            yield
        except Exception as error:
            self.error = error
            raise
        except BaseException as error:
            if self.is_direct:
                raise
            self.error = RuntimeError(f"{type(error).__name__}: {error}")
            raise self.error from error

    @contextlib.contextmanager
    def answering(self, job):
        """Take as its answer what a provider's code writes on a job: no tool is called by it."""
        self.job, self.has_begun = job, True
        try:
            with self.listening():
                yield
        finally:
            self.job = None

    def ask(self, method, *args, **kwargs):
        """Call a method of a provider; note that it was called, what it says and raises."""
        self.has_asked, self.has_begun, self.error, self.finish_reason = True, True, None, None
        self.asked_at = time.monotonic()
        call = Usage(args, *map(kwargs.get, GIVEN_NAMES))
        self._calls.append(call)
        with self.listening(), self.away():
            answer = method(*args, **kwargs)
        if hasattr(answer, "__next__"):
            chunks = self._chunks(answer, call)
            return chunks if self.is_direct else gathered(chunks)
        self._hear(call, answer[0] if isinstance(answer, tuple) and answer else answer)
        self._end(call)
        return answer

    def _chunks(self, chunks, call):
        with contextlib.closing(chunks) if hasattr(chunks, "close") else contextlib.nullcontext():
            chunks, end = iter(chunks), object()
            while True:
                with self.listening(), self.away():
                    chunk = next(chunks, end)
                if chunk is end:
                    break
                self._hear(call, chunk)
                yield chunk
        self._end(call)

    def _end(self, call):
        """Note that an answer came to its end.

        :raise GenerationError: for one that ended before its first word, and says why; a direct
            answer tells its user so
        """
        call.is_whole = True
        error = NO_WORD.get(self.finish_reason)
        if error and not (call.has_answer or self.is_direct):
            with self.listening():
                raise error[0](error[1])

    @property
    def has_heard(self):
        """Whether the newest call has said anything."""
        return bool(self._calls and self._calls[-1].is_known)

    def _hear(self, call, said):
        call.hear(said)
        if isinstance(said, dict) and said.get("finish_reason"):
            self.finish_reason = finish_reason_of(said["finish_reason"])
        self._has_refused = self._has_refused or (
            isinstance(said, dict) and bool(said.get("error"))
        )

    @property
    def asked(self):
        """How often a provider was asked for the answer."""
        return len(self._calls)

    @property
    def usage(self):
        """The tokens that were used so far, empty where nothing is known."""
        known = [call for call in self._calls if call.is_known]
        return {
            f"{kind}_tokens": sum(call.tokens(kind) for call in known)
            for kind in ("prompt", "completion")
            if known
        }

    @property
    def cost(self):
        """The tokens that the answer cost: None if nothing was asked, empty if nobody can know."""
        if not self.has_asked:
            return None
        known = classify(self.error) if self.error else None
        is_free = self._has_refused or (known and known.error_type not in UNKNOWN_OUTCOMES)
        nothing = {"prompt_tokens": 0, "completion_tokens": 0} if is_free else {}
        return self.usage or nothing


#: Seconds from one piece of an answer that comes fast to the next; what is waited for longer than
#: CHUNK_GAP does not come fast.
CHUNK_INTERVAL, CHUNK_GAP = 0.2, 0.05


def gathered(chunks):
    """Yield the chunks of an answer, with words that come fast put together.

    Each chunk that a thread gets is rendered, stored and committed, which takes longer than a word.
    What came last before a pause is seen with what follows.
    """
    words, due, since, end = [], 0.0, time.monotonic(), object()
    with contextlib.closing(chunks):
        while True:
            error = None
            try:
                chunk = next(chunks, end)
            except Exception as raised:  # noqa: BLE001 after the words that came before it
                chunk, error = end, raised
            now, is_text = time.monotonic(), _is_text(chunk)
            words += [chunk] * is_text
            if words and (not is_text or now >= due or now - since >= CHUNK_GAP):
                yield {**words[-1], "content": "".join(word["content"] for word in words)}
                words, due = [], time.monotonic() + CHUNK_INTERVAL
            if error:
                raise error
            if chunk is end:
                return
            if not is_text:
                yield chunk
            since = time.monotonic()


def _is_text(chunk):
    """Return whether a chunk brings words and nothing else."""
    return (
        isinstance(chunk, dict)
        and chunk.keys() <= {"content", "role"}
        and isinstance(chunk.get("content"), str)
    )


# === ENVIRONMENT FACTORY ===


def is_uninstalled(dbname):
    """Return whether this process has heard that the module is no longer there."""
    return "llm.generation.engine" not in Registry(dbname)


class EnvironmentFactory:
    """Gives the engine of a database; it holds no connection between its statements."""

    def __init__(self, dbname, **context):
        """Take a database's name, and the context that the engine always gets."""
        self.dbname = dbname
        self._context = context
        self._registry = None
        self._checked_at = 0.0

    @property
    def are_installed(self):
        """Whether the engine is there, as far as is known by now."""
        return self._registry is None or "llm.generation.engine" in self._registry

    def engine(self):
        """Return the engine for short use."""
        now = time.monotonic()
        if self._registry is None or now > self._checked_at + limits.REGISTRY_CHECK:
            # Another process may have installed a module.
            self._checked_at = now
            try:
                self._registry = Registry(self.dbname).check_signaling()
            except psycopg2.Error:
                if self._registry is None:
                    raise
                # What must wait for the database waits where its answer is not lost meanwhile.
                _logger.info("Database %s cannot be asked for new modules now", self.dbname)
        env = api.Environment(LazyCursor(self._registry), SUPERUSER_ID, self._context)
        return env["llm.generation.engine"]


# === ARGUMENTS BY CONTEXT ===
# What has to pass a provider's own code goes by the context, where remote callers write, too.

#: What JSON is made of. The engine hands over nothing of these types.
PLAIN = (str, int, float, list, tuple, dict, type(None))


def received(env, key):
    """Return what the engine put into the context, None for what came by RPC."""
    value = env.context.get(key)
    return None if isinstance(value, PLAIN) else value


# === JOB CONTEXT ===


@dataclass(frozen=True)
class JobContext:
    """A claimed job, whose rights it runs with, and the values that providers read.

    `earlier_job` is the provider's id of an earlier attempt's job that may still run there.
    `values` maps `(model, id)` to `{field name: value as in the ORM's cache}`. `refusal` says
    why the job may not run, and is empty for one that may.
    """

    claim: Claim
    user_id: int
    context: dict
    values: dict = field(default_factory=dict)
    refusal: str = ""
    earlier_job: str = ""

    @property
    def provider_id(self):
        """The id of the job's provider."""
        return next(record_id for model, record_id in self.values if model == "llm.provider")
