"""Where claimed jobs are executed: the interface, and the threads of the resident runner."""

from abc import ABC, abstractmethod


class Executor(ABC):
    """Executes what a runner claims; the runner does not know how.

    The runner asks `llm.generation.life._executor()` for the one to use, each time that it claims
    or keeps house: an addon that is installed or configured meanwhile counts from then on. So an
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
            `{queue id: seconds}`, as in `llm.generation.claim._claim()`
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

    def __init__(self, models, conversations, workers):
        """Take the threads.

        :param Models models: gives the engine's models for short use
        :param Conversations conversations: what the threads do
        :param Workers workers: the threads
        """
        self._models = models
        self._conversations = conversations
        self._workers = workers
        self._calls = conversations.calls

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
        preparation = self._models.get("llm.generation.preparation")
        return preparation._take(slots, runner_id, runner_name, queue_ids)

    def start(self, work):
        for brief in work:
            self._calls.add(brief.claim)
            try:
                self._workers.submit(self._conversations.hold, brief, "_run")
            except RuntimeError:
                # No thread is to be had: what is not in `calls` is not held.
                self._calls.pop(brief.claim.token, None)
                raise

    def held(self, runner_id):
        return list(self._calls)

    def is_busy(self, runner_id):
        return bool(self._calls)

    def leave(self, runner_id, deadline, wait):
        self._calls.wind_up(self._models.get("llm.generation.life"), deadline, wait)
