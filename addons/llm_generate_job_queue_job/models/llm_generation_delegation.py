import contextlib
import functools
import logging
import time

from odoo import api, fields, models

from odoo.addons.llm_generate_job.protocol.http_errors import traceback_of
from odoo.addons.llm_generate_job.runner.executor import Execution
from odoo.addons.llm_generate_job.runner.messages import Lost
from odoo.addons.queue_job.exception import FailedJobError
from odoo.addons.queue_job.job import Job

from .. import statements as sql
from ..attendant import attend
from ..limits import HELD_DELAY, LOST_DELAY, PATIENCE, STALLED_PAUSE

_logger = logging.getLogger(__name__)

#: Tries of queue_job: whether a job is tried again is not its decision.
ONE = 1


class LlmGenerationDelegation(models.AbstractModel):
    """Hands claimed jobs to queue_job, and has its workers begin them: each attempt once."""

    _name = "llm.generation.delegation"
    _description = "LLM Generation Delegation"
    _inherit = ["llm.generation.engine"]

    # === IN THE PROCESS THAT CLAIMS === #

    @api.model
    def _split(self, queue_ids=None):
        """Return those of some queues (None: of all) whose jobs queue_job executes, and the rest.

        The rest is None where all are meant and queue_job has none of them.
        """
        delegated = self.env["llm.generation.queue"]._delegated()
        if queue_ids is None:
            if not delegated:
                return [], None
            # sudo: a runner works for everybody.
            queues = self.env["llm.generation.queue"].sudo()
            return list(delegated), queues.search([("id", "not in", delegated)]).ids
        theirs = [queue_id for queue_id in queue_ids if queue_id in delegated]
        return theirs, [queue_id for queue_id in queue_ids if queue_id not in delegated]

    @api.model
    def _hand_over(self, claims):
        """Make a record of queue_job for each claim. It has ids only: no key and no prompt."""
        token_of = {claim.job_id: claim.token for claim in claims}
        with self._transaction() as delegation:
            jobs = delegation.env["llm.generation.job"].browse(token_of).exists()
            queue_of = delegation._queue_getter()
            delayed = [
                delegation._delayed(job, token_of[job.id], queue_of(job.provider_id))
                for job in jobs
            ]
            # At once, and not by `store()` of each.
            values = [one._store_values(create=True) for one in delayed]
            # sudo: as queue_job itself does it.
            delegation.env["queue.job"].sudo().create(values)
            params = [[token_of[job.id] for job in jobs], [one.uuid for one in delayed]]
            delegation._change(sql.HANDED_OVER, params, touches=["llm.generation.attempt"])

    def _delayed(self, job, token, queue):
        return Job(
            job.with_context(company_id=job.company_id.id)._run_claimed,
            args=(token,),
            channel=queue.queue_job_channel,
            priority=job.priority,
            max_retries=ONE,
            description=self.env._(
                "Generation %(job)s, attempt %(token)s", job=job.id, token=token
            ),
        )

    @api.model
    def _waiting(self, runner_id):
        """Return the tokens of a runner's claims that queue_job is going to begin."""
        params = {"runner": runner_id, "patience": PATIENCE}
        return [row[0] for row in self._select(sql.WAITING, params)]

    @api.model
    def _give_back_unbegun(self):
        """Let all jobs wait again, in our own queues, that queue_job has not begun."""
        with self._transaction() as delegation:
            for (job_id,) in delegation._select(sql.UNBEGUN):
                delegation._snooze(delegation.env["llm.generation.job"].browse(job_id))

    @api.model
    def _settle_unbegun(self, job, attempt):
        """Let a job wait again that queue_job has not begun. It costs no retry."""
        uuid = attempt.queue_job_uuid
        record = self.env["queue.job"].search([("uuid", "=", uuid)], limit=1)
        values, delay = {"error_type": False, "error_message": False}, 0.0
        if self._queue_of(job).id not in self.env["llm.generation.queue"]._delegated():
            pass  # it moves to the threads
        elif not record or record.state in {"failed", "cancelled", "done"}:
            states = dict(record._fields["state"]._description_selection(self.env))
            what = states[record.state] if record else self.env._("deleted")
            values["error_message"] = self.env._(
                "queue_job did not begin the job: its record %(uuid)s is: %(state)s.",
                uuid=uuid,
                state=what,
            )
            delay = LOST_DELAY
        elif attempt.started_at <= self._after(-PATIENCE):
            values["error_message"] = self._note_stall(job, uuid)
        _logger.info("Job %s: queue_job has not begun it (%s)", job.id, uuid)
        self._snooze(job, delay, **values)

    def _note_stall(self, job, uuid):
        """Have the queue say why nothing starts, and return why a job was not begun."""
        queue = self._queue_of(job)
        if not self._select(sql.HAS_BEGUN, [job.provider_id.id])[0][0]:
            self._pause(queue, STALLED_PAUSE)
        if not queue.queue_job_stalled_at:
            # sudo: what queue_job brings about is written by no user.
            queue.sudo().queue_job_stalled_at = fields.Datetime.now()
        return self.env._(
            "queue_job did not begin the job within %(seconds)s seconds (record %(uuid)s).",
            seconds=int(PATIENCE),
            uuid=uuid,
        )

    # === IN A WORKER OF QUEUE_JOB === #

    @api.model
    def _execute_claimed(self, claim):
        """Run a claimed job to its end, in transactions of the engine's.

        That of queue_job stays open meanwhile, and has nothing but its own lock.

        :return: what became of it, for people
        :raise FailedJobError: when it could not be begun, or its end could not be stored
        """
        try:
            with self._attended(claim) as (runner, call):
                return self._run_begun(claim, runner, call)
        except Exception as error:  # noqa: BLE001 its text may have what is nobody's business
            self._report(claim, error)
            name = type(error).__name__
            raise FailedJobError(
                self.env._(
                    "Generation %(job)s: %(error)s. See the log.", job=claim.job_id, error=name
                )
            ) from None

    def _run_begun(self, claim, runner, call):
        if call is None:
            return self._superseded(claim)
        while (begun := runner.begin(claim)) is None:
            time.sleep(HELD_DELAY)
        job_context, refusal = begun
        if refusal:
            return refusal
        runner.execute(job_context, call)
        return self.env._("Attempt %(token)s of generation %(job)s has ended.",
                          token=claim.token, job=claim.job_id)  # fmt: skip

    @api.model
    @contextlib.contextmanager
    def _attended(self, claim):
        if not self._is_inline():
            with attend(self.env.cr.dbname, claim) as attended:
                yield attended
            return
        yield Inline(self), Execution(claim)

    @api.model
    def _begin(self, claims, runner_id, runner_name):
        """Make claims this process's own, but for attempts that no longer count or were begun.

        :return: by token the job_context, or None and why not; without those whose job somebody is
            changing just now
        """
        with self._transaction() as delegation:
            fenced = delegation._fence(claims, held := [])
            jobs = {job.attempt_token: job for job in fenced}
            tried = [claim for claim in claims if claim not in held]
            begun = {claim.token: (None, delegation._superseded(claim)) for claim in tried}
            starting, queue_of = [], delegation._queue_getter()
            for claim in delegation._unbegun(tried):
                job = jobs.get(claim.token)
                if not job or job.external_job_id:
                    continue
                if reason := delegation._closed(queue := queue_of(job.provider_id)):
                    delegation._snooze(job)
                    begun[claim.token] = (None, reason)
                    continue
                if queue.queue_job_stalled_at:
                    # sudo: as it was written.
                    queue.sudo().queue_job_stalled_at = False
                starting.append(claim)
            if starting:
                tokens = [claim.token for claim in starting]
                params = {"tokens": tokens, "runner": runner_id, "runner_name": runner_name}
                touches = ["llm.generation.job", "llm.generation.attempt"]
                delegation._change(sql.BEGIN, params, touches=touches)
                delegation._forget_statistics()
                contexts = delegation._job_contexts(starting)
                begun |= {context.claim.token: (context, "") for context in contexts}
            return begun

    def _queue_getter(self):
        """Return what returns the queue of a provider, asking the database once for each."""
        return functools.cache(self.env["llm.generation.queue"]._get_or_create_queue)

    def _unbegun(self, claims):
        """Return those of the claims that no worker has begun."""
        tokens = [claim.token for claim in claims]
        domain = [("id", "in", tokens), ("queue_job_begun_at", "=", False)]
        unbegun = set(self.env["llm.generation.attempt"].search(domain).ids)
        return [claim for claim in claims if claim.token in unbegun]

    def _closed(self, queue):
        """Return why nothing of a queue may start now, what was claimed before included."""
        paused = queue.paused_until and queue.paused_until > self.env.cr.now()
        if queue.enabled and not paused and queue.provider_id.active:
            return ""
        return self.env._("The queue starts nothing now: the job waits there again.")

    def _superseded(self, claim):
        return self.env._(
            "Superseded: attempt %(token)s of generation %(job)s no longer counts, or was begun.",
            token=claim.token,
            job=claim.job_id,
        )

    def _report(self, claim, error):
        _logger.error("Job %s was not run by queue_job\n%s", claim.job_id, traceback_of(error))
        with contextlib.suppress(Exception), self._transaction() as delegation:
            delegation._wake(Lost())


class Inline:
    """Stands for the attendant of a process where jobs run in the caller's transaction."""

    def __init__(self, delegation):
        self._delegation = delegation
        self._engine = delegation.env["llm.generation.engine"]

    def begin(self, claim):
        runner_id = self._engine._runner_row("inline", 0)
        return self._delegation._begin([claim], runner_id, "inline").get(claim.token)

    def execute(self, job_context, call):
        self._engine._run(job_context, execution=call)
