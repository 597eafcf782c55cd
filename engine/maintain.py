import contextlib
import logging
import math
import time
from datetime import timedelta

from odoo import SUPERUSER_ID, api, fields, models
from odoo.exceptions import UserError

from ..const import AT_PROVIDER, DEFAULT_RETENTION_DAYS
from ..protocol.answer import Answer, Claim
from ..protocol.http_errors import classify, traceback_of
from ..runner import runner as runners
from ..runner import thread_lock
from ..runner.cursor import is_away
from ..runner.executor import hung_up_after
from ..runner.limits import POLL_TIMEOUT
from . import sql
from .sql import READY_QUEUES

_logger = logging.getLogger(__name__)

#: External jobs that one call of the scheduled action asks about.
CHECK_BATCH = 200
#: Waiting jobs cancelled in one transaction, which keeps claims waiting for a moment only.
CANCEL_BATCH = 2000

#: Seconds between two questions about a job by those who call `check_status()`.
CHECK_PAUSE = 3.0
#: Upper half of the keys of the locks that let one of them ask about a job at a time.
CHECK_LOCK = 1_819_110_257 << 32

#: Seconds for which a cancellation is left to the process that tells the provider.
CANCEL_LEASE = 60
#: How long after a job's end its provider is told again that could not be told.
CANCEL_PATIENCE = timedelta(hours=1)
#: Errors of a provider that is told of a cancellation which no repetition changes.
UNCHANGED = frozenset({"bad_request", "content_refused", "provider_failed", "cancelled"})
#: Seconds until a retry is due again that an addon refused.
REFUSED_AGAIN = 900
#: Seconds between two questions about a job that was given up and may go on at its provider.
HELD_PAUSE = 10.0
#: Seconds for which a slot stays held at least whose provider says that the job goes on.
HELD_ON = 300.0

#: Records removed in one transaction.
CLEAN_UP_BATCH = 1000
#: Seconds that the scheduled action cleans up at a time. Odoo calls it again for what is left, ten
#: times before others have their turn, and a worker process is ended after 120 s by default.
CLEAN_UP_SECONDS = 5.0


class LlmGenerationEngine(models.AbstractModel):
    """What time brings: retries, polls, timeouts, dead processes.

    Each method opens its own transactions, may run in several processes at once, and returns
    how many jobs it moved.
    """

    _inherit = "llm.generation.engine"

    # === DUE BY THE CLOCK === #

    @api.model
    def _schedule(self):
        """Let the jobs join the line whose time has come, or that no addon holds back any more."""
        with self._transaction() as engine:
            if len(engine._change(sql.SCHEDULE)) + engine._release_held():
                engine._wake()  # this process may have no thread for them

    @api.model
    def _next_due(self):
        """Return the seconds until something is due, None for nothing."""
        (seconds,) = self._select(sql.NEXT_DUE)[0]
        if (seconds is None or seconds > 0) and self._is_held_due():
            return 0.0
        return None if seconds is None else max(0.0, float(seconds))

    @api.model
    def _has_work(self):
        """Return whether anything waits that a runner could do now."""
        if self._select(READY_QUEUES, {"queue_ids": None, "even_full": True}):
            return True
        due = self._next_due()
        return due is not None and due <= 0

    @api.model
    def _retry_due(self):
        """Queue again the failed jobs whose retry is due."""
        with self._transaction() as engine:
            ids = [row[0] for row in engine._select(sql.DUE_RETRIES)]
            jobs = engine.env["llm.generation.job"].browse(ids)
            live = jobs._filtered_identity_free()
            (jobs - live).write({"retry_at": False})
            engine._call_hooks(jobs - live)
            live._follow_thread()  # whoever is asked and pays is who will answer
            live = live._may_retry(is_due=True)
            engine._each(live.grouped("provider_id").values(), engine._enqueue_again)
        return len(live)

    @api.model
    def _enqueue_again(self, jobs):
        """Queue failed jobs again; one that an addon refuses is tried again later."""
        try:
            with self.env.cr.savepoint():
                self._enqueue(jobs, sources=("failed",))
        except UserError as error:
            if len(jobs) == 1:
                _logger.info("Job %s is not queued again now: %s", jobs.id, type(error).__name__)
                jobs.retry_at = self._after(REFUSED_AGAIN)
                return
            for job in jobs:
                self._enqueue_again(job)

    @api.model
    def _stop_retrying(self, jobs):
        """Have failed jobs be at their end, which a retry was ahead of."""
        jobs = jobs.sudo()  # sudo: the date is the engine's; who asks was checked before
        jobs.write({"retry_at": False})
        self._call_hooks(jobs)
        self._notify(jobs)

    @api.model
    def _fail_overdue(self):
        """Fail the jobs that run longer than their queue allows."""
        with self._transaction() as engine:
            ids = [row[0] for row in engine._select(sql.OVERDUE)]
            jobs = engine.env["llm.generation.job"].browse(ids)
            engine._each(jobs, engine._fail_one_overdue)
        return len(jobs)

    def _fail_one_overdue(self, job):
        queue = self.env["llm.generation.queue"]._get_or_create_queue(job.provider_id)
        decision = self._decide(job, queue, Answer("failed", error_type="timeout"))
        message = self._speaking_to(job.user_id).env._(
            "No answer within %s seconds. The queue's Job Timeout can be raised.",
            queue.job_timeout,
        )
        job._set_state(
            "failed",
            error_type="timeout",
            error_message=message,
            cancel_requested=bool(job.external_job_id),
            **self._retry_values(decision),
        )
        self._stop_calls(job)

    # === EXTERNAL JOBS === #

    @api.model
    def _claim_polls(self, limit, *, now=False, busy=None):
        """Return claims on external jobs to ask about; `now` takes those not yet due, too.

        :param list busy: the providers that are being asked here, once for each question; what is
            left of `limit` is shared with regard to them. None takes as many as there are
        """
        share = 2 * limit if busy is None else limit
        limit = limit if busy is None else (limit + 1) // 2  # others may come
        params = {"limit": limit, "now": now, "share": share, "busy": busy or []}
        with self._transaction() as engine:
            rows = engine._change(sql.CLAIM_POLLS, params)
        return [
            Claim(job_id, token or 0, timeout=POLL_TIMEOUT, provider_id=provider_id)
            for job_id, token, provider_id in rows
        ]

    @api.model
    def _renew_polls(self, claims):
        """Say that these jobs are still being asked about: nobody else is to ask."""
        if claims:
            params = {"jobs": [claim.job_id for claim in claims],
                      "tokens": [claim.token for claim in claims]}  # fmt: skip
            with self._transaction() as engine:
                engine._change(sql.RENEW_POLLS, params)

    @api.model
    def _check_due(self):
        """Ask about the external jobs that are due; in inline mode about all of them.

        Scheduled actions have a transaction open while they work: theirs only sees to it that
        there is a runner, which asks.
        """
        if "cron_id" in self.env.context and not self._is_inline():
            if self._schedule_check():
                runners.ensure(self.env.cr.dbname)
            return 0
        claims = self._claim_polls(CHECK_BATCH, now=self._is_inline())
        for job_context in self._prefetch(claims):
            self._poll(job_context)
        for method, *args in self._claim_errands(CHECK_BATCH):
            getattr(self, method)(*args)
        self._fail_overdue()
        self._cancel_at_providers()
        return len(claims)

    @api.model
    def _schedule_check(self):
        """Look again in 30 seconds if any external job runs: crons know minutes only.

        :return: whether one runs
        """
        # sudo: the scheduled action looks after everybody's jobs.
        Job = self.env["llm.generation.job"].sudo()
        if not Job.search_count(AT_PROVIDER.domain, limit=1):
            return False
        at = fields.Datetime.now() + timedelta(seconds=30)
        # sudo: scheduled actions are the administrators'.
        self.env.ref("llm_generate_job.ir_cron_check_jobs").sudo()._trigger(at=at)
        return True

    @api.model
    def _check_now(self, job):
        """Ask about one job now; afterwards the record shows its newest committed state.

        :return: what the provider said, or what is known where it was asked a moment ago
        :raise UserError: for a job that waits, and that no runner can see yet
        """
        answer, is_asked = False, True
        committed = self._committed_values(job)
        # Others never see a job queued earlier than we do, unless it is we who queued it.
        seen = committed.get("queued_at")
        if job.state == "queued" and (not seen or seen < job.queued_at):
            raise UserError(
                self.env._(
                    "Job %s was queued in this transaction, so nobody can work on it yet."
                    " Commit first, then ask for its status.",
                    job.id,
                )
            )
        if self._is_inline() and job.state == "queued":
            self._process(self.env["llm.generation.queue"]._get_or_create_queue(job.provider_id))
        with self._transaction() as engine:
            current = engine.env["llm.generation.job"].browse(job.id).exists()
            claim = Claim(job.id, current.attempt_token, timeout=POLL_TIMEOUT)
            is_external = AT_PROVIDER.holds(current)
        if is_external:
            answer, is_asked = self._ask_once(claim)
        for name, value in self._committed_values(job).items():
            job._fields[name]._update_cache(job, value)
        self._remember_answer(job)
        computed = [
            name for name, field in job._fields.items() if field.compute and not field.store
        ]
        job.invalidate_recordset(computed, flush=False)
        return answer if is_asked else {"state": job.state, "progress": job.progress}

    @api.model
    def _ask_once(self, claim):
        """Ask about a job, unless somebody asks just now or did within `CHECK_PAUSE`.

        Each question keeps the caller's connection, and counts at the provider, who limits them.

        :return: what the provider said, and whether it was asked
        """
        with thread_lock.hold(self.env.cr.dbname, CHECK_LOCK + claim.job_id) as release:
            if release is None or not (self._is_inline() or self._claim_question(claim)):
                return False, False
            (job_context,) = self._prefetch([claim])
            with hung_up_after(POLL_TIMEOUT, job_context.claim) as execution:
                return self._poll(job_context, execution=execution), True

    @api.model
    def _claim_question(self, claim):
        with self._transaction() as engine:
            params = {"job": claim.job_id, "token": claim.token, "pause": CHECK_PAUSE}
            return bool(engine._change(sql.CLAIM_QUESTION, params))

    @api.model
    def _committed_values(self, job):
        """Return the cache values of a job as others see it now; empty where they see none.

        The caller's snapshot may be older. What is read elsewhere goes into its cache.
        """
        self.env.flush_all()
        with self.env.registry.cursor() as cr:
            current = job.with_env(api.Environment(cr, SUPERUSER_ID, {})).exists()
            names = [name for name in self._columns(job._name) if name != "id"]
            current.fetch(names)
            return (
                {name: current._fields[name]._get_cache(current.env)[job.id] for name in names}
                if current
                else {}
            )

    @api.model
    def _remember_answer(self, job):
        """Have the answer of a job readable as it is committed, with its files.

        The caller's snapshot may be older than the message: what is read elsewhere, as the caller,
        goes into the cache.
        """
        message = job.output_message_id
        if not message:
            return
        with self.env.registry.cursor() as cr:
            current = message.with_env(job.env(cr=cr))
            if not (current.exists() and current.has_access("read")):
                return
            files = current.attachment_ids
            for records in (current, files):
                records.fetch(self._kept_names(records._name))
                for (_model, record_id), values in self._cached_values(records).items():
                    for name, value in values.items():
                        records._fields[name]._get_cache(job.env)[record_id] = value
            message._fields["attachment_ids"]._update_cache(message, files._ids)

    @api.model
    def _claim_cancellations(self, limit=50):
        """Return the ids of the jobs that providers have to be told of, so many at most.

        They are ours for a while: a process that dies meanwhile has told nobody.
        """
        with self._transaction() as engine:
            params = {"lease": CANCEL_LEASE, "limit": limit}
            rows = engine._change(sql.CANCELLED_AT_PROVIDER, params)
            return [row[0] for row in rows]

    @api.model
    def _cancel_at_providers(self):
        for job_id in self._claim_cancellations():
            self._cancel_at_provider(job_id)

    @api.model
    def _cancel_at_provider(self, job_id):
        """Tell the provider that a job was given up; it may refuse.

        One that could not be told is told again after a while, until that is of no use any more.
        """
        with self._transaction(lazy=True) as engine:
            job = engine.env["llm.generation.job"].browse(job_id).exists()
            told = {"job": job_id, "external": job.external_job_id or ""}
            if engine._is_cancel_over(job):
                engine._change(sql.CANCEL_ENDED, told)

    @contextlib.contextmanager
    def _asking(self, job):
        """Yield a job that has ended as its owner's, for a question that is no part of its call."""
        # Who lost the right to the provider cannot be the one who asks it.
        owned = job if job.error_type == "access" else job.with_user(job.user_id)
        with hung_up_after(POLL_TIMEOUT) as execution:
            yield owned.with_context(**execution.context)

    def _is_cancel_over(self, job):
        """Tell the provider of a cancellation; return whether it is told no more."""
        if not job.external_job_id or job.state == "running":
            return True  # it was tried again meanwhile, which ended the earlier try
        ended = job.completed_at or job.queued_at or fields.Datetime.now()
        try:
            with self._asking(job) as owned:
                done = owned.provider_id.cancel_generation_job(owned)
            _logger.info("Job %s: cancelled at the provider: %s", job.id, bool(done))
        except BaseException as error:  # noqa: BLE001 the job has ended, whatever it says
            told = traceback_of(error, job.provider_id._told_key())
            self.env.cr.rollback()
            _logger.warning("Job %s: the provider did not cancel it\n%s", job.id, told)
            known = classify(error)
            passes = (known is not None and known.error_type not in UNCHANGED) or is_away(error)
            return not passes or ended < fields.Datetime.now() - CANCEL_PATIENCE
        if done:
            self._release_slots(job._attempts_at_provider().ids)
        return True

    @api.model
    def _held_at_providers(self, limit):
        """Return what to ask providers about whose jobs were given up and may go on there.

        Drops the holds that are over, and returns `(token, job id, provider's id)` of others.
        """
        with self._transaction() as engine:
            engine._slots_are_free(engine._change(sql.RELEASE_OLD, touches=()))
            params = {"limit": limit, "pause": HELD_PAUSE}
            return engine._change(sql.HELD_AT_PROVIDER, params, touches=())

    @api.model
    def _ask_about_held(self, token, job_id, external_job_id):
        """Free the slot of a job that was given up once it no longer runs at its provider.

        Until then it stays held, for a day at most.
        """
        with self._transaction(lazy=True) as engine:
            job = engine.env["llm.generation.job"].browse(job_id)
            job._fields["external_job_id"]._update_cache(job, external_job_id)  # as it was
            try:
                with engine._asking(job) as owned:
                    said = owned.provider_id.check_generation_job_status(owned)
                answer = Answer.from_dict(said)
            except BaseException as error:  # noqa: BLE001 it is asked again
                _logger.info("Job %s: whether it goes on is not known: %s", job_id, type(error))
                return
            finally:
                engine.env.cr.rollback()  # its answer comes too late for anybody
            if answer.state in {"queued", "running"}:
                params = {"token": token, "seconds": HELD_ON}
                engine._change(sql.KEEP_HOLD, params, touches=())
            else:
                engine._release_slots([token])

    # === MANY JOBS === #

    @api.model
    def _cancel_waiting(self, providers):
        """Cancel what waits for these providers and the caller sees, in batches with a commit each.

        In one transaction, a hundred thousand jobs would collide with the first that starts.

        :return: how many were cancelled
        """
        params = {"companies": self._seen_companies(), "limit": CANCEL_BATCH}
        cancelled = 0
        for provider_id in providers.ids:
            batch = CANCEL_BATCH
            while batch == CANCEL_BATCH:
                with self._transaction() as engine:
                    rows = engine._select(sql.WAITING, {**params, "provider": provider_id})
                    jobs = engine.env["llm.generation.job"].browse(row[0] for row in rows)
                    jobs._set_state("cancelled", is_scheduled=False)
                    batch = len(jobs)
                cancelled += batch
        return cancelled

    @api.model
    def _seen_companies(self):
        """Return the ids of the companies whose jobs the caller sees, None for all of them."""
        return None if self.env.su else self.env.companies.ids

    # === OLD JOBS AND NEWS === #

    @api.model
    def _send_outbox(self, job_ids):
        """Tell the web clients about jobs that moved."""
        with self._transaction() as engine:
            # Few of the columns: there may be very many jobs.
            jobs = engine.env["llm.generation.job"].search_fetch(
                [("id", "in", job_ids)], ["user_id", "provider_id"]
            )
            if jobs:
                engine._announce(jobs)

    # === CLEANER === #

    @api.model
    def _clean_up(self, days=None, seconds=math.inf):
        """Remove the jobs that ended more than `days` ago, in batches; messages stay.

        :param float seconds: no other batch is begun after these
        :return: how many were removed, and whether some may be left
        """
        deadline = time.monotonic() + seconds
        limit = self._kept_since(days)
        # One after the other: the dates are in an index by provider.
        removed, left = 0, [row[0] for row in self._select(sql.PROVIDERS)]
        while left:
            with self._transaction() as retention:
                params = {"provider": left[0], "limit": limit, "batch": CLEAN_UP_BATCH}
                old = [row[0] for row in retention._select(sql.OLD_JOBS, params)]
                retention.env["llm.generation.job"].browse(old).unlink()
            removed += len(old)
            if len(old) < CLEAN_UP_BATCH:
                left.pop(0)
            if old and time.monotonic() >= deadline:
                break
        return removed, bool(left)

    @api.model
    def _kept_since(self, days=None):
        """Return the date of which on ended jobs are kept; None takes the days of the settings."""
        if days is None:
            queues = self.env["llm.generation.queue"]
            days = queues._default_setting("retention_days", DEFAULT_RETENTION_DAYS)
        return fields.Datetime.now() - timedelta(days=days)

    @api.model
    def _clean_up_in_time(self):
        """Clean up for a few seconds; the scheduled action has itself called again for the rest."""
        removed, is_more = self._clean_up(seconds=CLEAN_UP_SECONDS)
        if self.env.context.get("cron_id"):
            self.env["ir.cron"]._commit_progress(removed, remaining=int(is_more))
