"""Executes claimed jobs as jobs of queue_job."""

from odoo.addons.llm_generate_job.runner.executor import Executor


class QueueJobs(Executor):
    """Hands claimed jobs to queue_job, in the channel of their provider, or to the runner's own.

    Which executes them is chosen for each queue. What queue_job has belongs to the runner that
    claimed it until a worker of queue_job begins it: from then on to that process, see `Attendant`.
    """

    def __init__(self, delegation, threads):
        """Take the model that speaks with queue_job.

        :param Threads threads: those of the runner, which may have been at work before
        """
        self._delegation = delegation
        self._life = delegation.env["llm.generation.engine"]
        self._threads = threads

    @property
    def free(self):
        # How many run at once the limits of the queues say, and the channels' capacities.
        return self._threads.slots

    def take(self, slots, runner_id, runner_name, queue_ids=None):
        theirs, rest = self._delegation._split(queue_ids)
        claims, waits, count, job_contexts = [], {}, 0, []
        if theirs:
            claim = self._delegation.env["llm.generation.engine"]
            claims, waits = claim._claim(slots, runner_id, runner_name, theirs)
        if self._threads.free and (rest or rest is None):
            free = min(slots, self._threads.free)
            count, job_contexts, later = self._threads.take(free, runner_id, runner_name, rest)
            waits |= later
        return len(claims) + count, (claims, job_contexts), waits

    def start(self, work):
        claims, job_contexts = work
        self._threads.start(job_contexts)
        if not claims:
            return
        try:
            self._delegation._hand_over(claims)
        except Exception:
            self._life._snooze_claims(claims)  # nobody has begun them: that is no death
            raise

    def held(self, runner_id):
        return self._threads.held(runner_id) + self._delegation._waiting(runner_id)

    def is_busy(self, runner_id):
        return self._threads.is_busy(runner_id) or bool(self._delegation._waiting(runner_id))

    def leave(self, runner_id, deadline, wait):
        self._life._rescue_lost(runner_id, self._threads.held(runner_id))
        self._threads.leave(runner_id, deadline, wait)
