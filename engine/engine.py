import contextlib
import functools
import logging
from datetime import timedelta

import psycopg2

from odoo import SUPERUSER_ID, api, fields, models, modules

from ..const import (
    BUS_JOB_UPDATE,
    BUS_QUEUE_CHANNEL,
    BUS_QUEUE_UPDATE,
    DEFAULT_ANSWER_TOKENS,
    FINAL_STATES,
    JOB_CHANNEL,
    RETRYING,
    RUNNER_CHANNEL,
    TRANSITIONS,
)
from ..protocol.http_errors import traceback_of
from ..runner import runner as runners
from ..runner.cursor import (
    LOCK_TIMEOUT,
    LONG_LOCK_TIMEOUT,
    InlineCursor,
    LazyCursor,
    is_locked,
    open_cursor,
)
from ..runner.messages import EVERYTHING, Cancelled, Queued, SlotFree, job_event
from . import sql

#: Jobs that one call of the inline mode runs at most, so that a job which queues itself ends.
INLINE_LIMIT = 1000
#: Until the scheduled action comes again, to whoever gets it, where a server that ends has got it.
PASSED_ON = timedelta(seconds=5)
#: What computes figures that follow from the states of jobs, by model.
FIGURES = {
    "llm.generation.queue": "_compute_statistics",
    "llm.thread": "_compute_generation_statistics",
}
#: Context that goes with the engine from one transaction to the next.
KEPT_CONTEXT = frozenset({"generation_inline"})

_logger = logging.getLogger(__name__)

#: Locked rows that one piece of maintenance waits for.
MOST_LOCKED = 3
#: Jobs of one user that one message on the bus tells about at most.
ANNOUNCED = 50


class LlmGenerationEngine(models.AbstractModel):
    """Lets jobs enter their queue, has them processed, and sees to what follows from a move.

    The other files of this folder have one act each: `claim`, `execute`, `complete`, what time
    brings (`maintain`), what becomes of dead processes (`liveness`), and who follows a job. They
    and `runner/` are the only code with SQL, locks and commits.
    """

    _name = "llm.generation.engine"
    _description = "LLM Generation Engine"

    def _register_hook(self):
        super()._register_hook()
        # What this server left behind need not wait a minute for the first scheduled action.
        # Of a copy Odoo makes the registry before it neutralizes it: nothing starts there yet.
        if runners.starts_by_itself() and not self._is_copied():
            runners.ensure(self.env.cr.dbname)

    # === TRANSACTIONS === #

    @api.model
    def _is_inline(self):
        """Whether jobs run in the caller's thread and transaction, as in tests.

        A test's data is in one transaction that no other thread sees. Nobody else may choose it.
        """
        return bool(modules.module.current_test) and self.env.context.get("generation_inline", True)

    @api.model
    @contextlib.contextmanager
    def _transaction(self, *, lazy=False, lent=False, waits=False):
        """Yield this model on a transaction of its own, which sees what others commit.

        In inline mode it is a part of the caller's transaction.

        :param bool lazy: hold a connection only while there is something to commit
        :param bool lent: take the caller's cursor, a lazy one that nobody needs for anything else
        :param bool waits: wait for locks as long as somebody may need who does the same
        """
        if inline := self._is_inline():
            self.env.flush_all()
            cr = InlineCursor(self.env.cr)
        elif lent and not self.env.cr.closed:
            cr = self.env.cr
        else:
            lock_timeout = LONG_LOCK_TIMEOUT if waits else LOCK_TIMEOUT
            registry = self.env.registry
            cr = LazyCursor(registry) if lazy else open_cursor(registry, lock_timeout)
        try:
            with cr:
                context = self.env.context
                kept = {key: context[key] for key in KEPT_CONTEXT & context.keys()}
                yield api.Environment(cr, SUPERUSER_ID, {"tracking_disable": True, **kept})[
                    self._name
                ]
        finally:
            if inline:
                self.env.invalidate_all(flush=False)

    @api.model
    def _select(self, statement, params=None):
        """Return the rows of a query, on what the ORM has in mind."""
        self.env.flush_all()
        self.env.cr.execute(statement, params)
        return self.env.cr.fetchall()

    @api.model
    def _now(self):
        """Return the time by the database's clock, to the microsecond, as jobs' dates have it."""
        self.env.cr.execute(sql.CLOCK)
        return self.env.cr.fetchone()[0]

    @api.model
    def _change(self, statement, params=None, *, touches=("llm.generation.job",), logs=True):
        """Execute a statement behind the ORM's back, and return the rows it returns.

        :param touches: names of the models whose cached values it makes stale
        :param bool logs: whether an error, which is raised in any case, stands in the log
        """
        self.env.flush_all()
        self.env.cr.execute(statement, params, log_exceptions=logs)
        rows = self.env.cr.fetchall() if self.env.cr.description else []
        for name in touches:
            self.env[name].invalidate_model(flush=False)
        return rows

    @api.model
    def _forget_after_commit(self):
        """Forget what is cached of settings, now and once others see them as they are.

        Between the two a runner of this process may have read, and cached, what they were.
        """
        self.env.registry.clear_cache()
        self.env.cr.postcommit.add(self.env.registry.clear_cache)

    # === ENQUEUE === #

    @api.model
    def _enqueue(self, jobs, sources=("draft",), *, afresh=False):
        """Move drafts, or failed jobs, to the end of the queue; the latter costs a retry each.

        :param bool afresh: they get all of their retries anew instead
        :return: the jobs that moved
        :raise UserError: where an addon does not allow for them
        """
        jobs._follow_thread()
        jobs._before_enqueue(sources)
        sources = [state for state in sources if state in TRANSITIONS["queued"]]
        return self._to_end_of_line(jobs, sources, afresh=afresh)

    @api.model
    def _rejoin(self, jobs):
        """Move waiting jobs, which have another provider now, to the end of its queue."""
        # Their turns are those of the line that they leave: nobody's follows from them meanwhile.
        jobs.write({"fair_rank": -1, "is_scheduled": True})
        self._to_end_of_line(jobs, ["queued"])

    def _to_end_of_line(self, jobs, sources, *, afresh=False):
        get_queue = self.env["llm.generation.queue"]._get_or_create_queue
        providers = jobs.sudo().provider_id  # sudo: one may queue what one may not configure
        queue_ids = [get_queue(provider).id for provider in providers]
        rows = self._change(
            sql.ENQUEUE,
            {
                "jobs": jobs.ids,
                "sources": sources,
                "answer_tokens": DEFAULT_ANSWER_TOKENS,
                "afresh": afresh,
            },
            logs=False,  # two tabs may ask the same at once
        )
        queued = jobs.browse(row[0] for row in rows)
        if queued:
            self._moved(queued, "queued", queued.browse(), queue_ids)
        return queued

    @api.model
    def _start_now(self, jobs):
        """Put waiting jobs at the head of their queue; who is no manager only skips a delay."""
        values = {"scheduled_at": False, "is_scheduled": False}
        if self.env.user.has_group("llm.group_llm_manager"):
            values |= {"fair_rank": -1, "priority": min([0, *jobs.mapped("priority")])}
        jobs.sudo().write(values)  # sudo: its place is the engine's; who asks was checked before
        self._wake()

    @api.model
    def _wake(self, message=EVERYTHING):
        """Tell the runners when the transaction commits; where there is none, start one.

        :param Message message: one of `runner/messages.py`
        """
        cr = self.env.cr
        cr.execute("SELECT pg_notify(%s, %s)", [RUNNER_CHANNEL, message.payload])
        woken = cr.postcommit.data.get("llm_generate_job.woken")
        if woken is True or (woken and woken.exists()):
            return
        if runners.running(cr.dbname) or runners.starts_by_itself():
            cr.postcommit.add(self._ensure_runner)
            woken = True
        else:
            woken = self._trigger_pump()  # which goes with its savepoint
            runners.warn_without_cron()
        cr.postcommit.data["llm_generate_job.woken"] = woken

    @api.model
    def _wake_for_slots(self, queue_ids):
        """Wake the runners for slots that are free now: at once that of this process, if any."""
        message = Queued(queue_ids)
        if runner := runners.running(self.env.cr.dbname):
            self.env.cr.postcommit.add(functools.partial(runner.wake, queue_ids))
            message = SlotFree(queue_ids)
        self._wake(message)

    @api.model
    def _wake_for_queues(self, queue_ids):
        """Wake the runners for queues of which more may start now."""
        self._wake(Queued(queue_ids))

    @api.model
    def _pump_cron(self):
        """Return the scheduled action that starts a runner; none where somebody deleted it."""
        pump = self.env.ref("llm_generate_job.ir_cron_process_queues", raise_if_not_found=False)
        return (pump or self.env["ir.cron"]).sudo()  # sudo: admins' only

    @api.model
    def _trigger_pump(self, moment=None):
        pump = self._pump_cron()
        return pump and pump._trigger(moment)

    def _ensure_runner(self):
        # The runner of this process may have ended between the look and the commit; whichever
        # runner is alive after the commit has been notified.
        if runners.starts_by_itself():
            runners.ensure(self.env.cr.dbname)
        elif not runners.running(self.env.cr.dbname):
            with self._transaction() as engine:
                engine._trigger_pump()

    # === PROCESS === #

    @api.model
    def _process(self, queues):
        """Start what may start now in these queues.

        In a server this makes sure that the process has a runner, which keeps on; in inline
        mode the jobs run to their end before this returns.

        :return: how many jobs were started; a scheduled action does not wait for that
        """
        if not self._is_inline():
            runner = runners.ensure(self.env.cr.dbname)
            if "cron_id" not in self.env.context:
                return runner.claim(queues.ids) if runner else 0
            if runner:
                # Its transaction is open: it must not last until a new runner is ready.
                runner.wake()
            else:  # another server is to look instead
                self._trigger_pump(fields.Datetime.now() + PASSED_ON)
            return 0
        self._schedule()
        started = 0
        while started < INLINE_LIMIT:
            claims, _wait = self._claim(1, queue_ids=queues.ids)
            if not claims:
                break
            started += len(claims)
            for job_context in self._prefetch(claims):
                self._run(job_context)
        return started

    # === HELD BACK === #
    # An addon can hold jobs back until something other than their date is there: it gives them the
    # date at which they start in any case (`scheduled_at`), so that no claim finds them before.

    @api.model
    def _release_held(self):
        """Let those jobs join the line (`is_scheduled`) that an addon held back and that may start.

        The clock of each runner calls it, in a transaction of its own, when `_is_held_due()` says
        so; several may at once. An addon that finds that it may be so wakes them by
        `_wake(Due())`.

        :return: how many jobs it let in
        """
        return 0

    @api.model
    def _is_held_due(self):
        """Return whether `_release_held()` would let in any job now."""
        return False

    # === ERRANDS === #
    # An addon can have providers asked for more than one job: for many at once, for one.

    @api.model
    def _claim_errands(self, limit):
        """Take what an addon has to ask of providers now, and nobody else may ask meanwhile.

        The clock of each runner calls it when something is due, as `_next_due()` of the addon
        tells, and has a thread call each of these methods. A method opens its own transactions,
        and has none open while it waits for a provider.

        :param int limit: how many there are threads for
        :return: a list of tuples: the name of a method of the engine, and its arguments
        """
        return []

    # === AFTER A MOVE === #

    @api.model
    def _moved(self, jobs, target, was_running, queue_ids=()):
        """Tell the runners, those who wait, the owners and the thread what became of jobs."""
        jobs = jobs.sudo()  # sudo: what follows from a move concerns others, too
        if was_running:
            was_running = was_running.sudo()  # sudo: as above
            outcome = "snoozed" if target == "queued" else target
            params = {"outcome": outcome, "jobs": was_running.ids}
            rows = self._change(sql.CLOSE_ATTEMPTS, params, touches=["llm.generation.attempt"])
            # A job that found its thread busy did not make it free.
            ended = was_running.filtered(lambda job: (target, job.error_type) != ("queued", "busy"))
            queues = {row[0] for row in rows}
            if any(is_busy for _queue, is_busy in rows):
                promoted = self._change(sql.SCHEDULE_BUSY, [ended.ids], touches=())
                queues |= {row[0] for row in promoted}
            self._wake_for_slots(queues - {None})
        if target == "queued":
            self._wake_for_queues(queue_ids)
        if target == "cancelled" and was_running:
            # A provider that cancelled a job itself need not be told.
            external = was_running.filtered("external_job_id")
            external.filtered(lambda job: job.error_type != "cancelled").write({
                "cancel_requested": True
            })
            self._stop_calls(was_running)
            if self._is_inline():
                self._cancel_at_providers()
        self._notify(jobs)
        self._forget_statistics()
        jobs._after_move(target, was_running)
        if target == "queued" and was_running:
            was_running._follow_thread()  # another model may have been chosen during the call
        if target in FINAL_STATES:
            self._call_hooks(jobs - jobs.filtered_domain(RETRYING.domain))

    @api.model
    def _forget_statistics(self):
        """Have the figures of queues and threads computed anew: SQL moved the jobs."""
        for name, compute in FIGURES.items():
            model = self.env[name]
            names = [name for name, field in model._fields.items() if field.compute == compute]
            model.invalidate_model(names, flush=False)

    @api.model
    def _stop_calls(self, jobs):
        """Tell the runners to hang up on jobs that no longer run."""
        for message in Cancelled.each(jobs.ids):
            self._wake(message)

    # === WHO IS TOLD === #
    # Tells whom it concerns what became of jobs: who waits, who looks, and other addons.

    @api.model
    def _notify(self, jobs):
        """Tell those who wait for jobs, at commit, that something happened to them."""
        self.env.cr.execute(
            "SELECT pg_notify(%s, payload) FROM unnest(%s::text[]) AS payload",
            [JOB_CHANNEL, [job_event(job_id) for job_id in jobs.ids]],
        )
        # Telling the web clients opens a connection: the runner, where there is one, does it.
        if runner := runners.running(self.env.cr.dbname):
            # One that has ended by then takes nothing any more.
            add = runner.outbox.add
            self.env.cr.postcommit.add(lambda: add(jobs.ids) or self._send_outbox(jobs.ids))
        else:
            self._announce(jobs)

    @api.model
    def _announce(self, jobs):
        """Send the owners of jobs, and the managers, their news over the bus."""
        jobs = jobs.sudo()  # sudo: each hears of their own
        if len(jobs) > ANNOUNCED:  # of the others nothing else is told
            jobs.fetch(("user_id", "provider_id"))
        for user, mine in jobs.grouped("user_id").items():
            payload = [job._bus_payload() for job in mine[:ANNOUNCED].with_prefetch()]
            user._bus_send(BUS_JOB_UPDATE, payload)
        self._announce_queues(jobs.provider_id)

    @api.model
    def _announce_queues(self, providers):
        """Tell the managers that the queues of providers changed: each those of own companies."""
        # sudo: a channel of the bus, which only members of the group hear.
        managers = self.env.ref("llm.group_llm_manager").sudo()
        # sudo: whose provider it is decides who hears of it.
        for company, mine in providers.sudo().grouped("company_id").items():
            news = {"provider_ids": mine.ids}
            if company:
                channel = (company, BUS_QUEUE_CHANNEL)
                self.env["bus.bus"]._sendone(channel, BUS_QUEUE_UPDATE, news)
            else:
                managers._bus_send(BUS_QUEUE_UPDATE, news)

    @api.model
    def _call_hooks(self, jobs):
        """Tell other addons, and the threads of jobs, that these have ended for good."""
        if jobs:
            jobs._after_end()
        if jobs.browse().thread_id._has_done_hook():
            for job in jobs.exists():
                self._call_hook(job)

    @api.model
    def _speaking_to(self, user):
        """Return this model in the language of a user, for what is stored for them to read."""
        return self.with_context(lang=user.with_user(user).context_get()["lang"])

    @api.model
    def _is_set_aside(self, error):
        """Return whether an error means a locked row, and what met it is tried again for that."""
        return is_locked(error) and getattr(self.env.cr, "sets_aside", False)

    @api.model
    def _each(self, groups, act):
        """Call `act(records)` for each; one that meets a locked row is left for the next time.

        So are, after a few, all others: who waits here has more to do.
        """
        left = MOST_LOCKED
        for records in groups:
            try:
                with self.env.cr.savepoint():
                    act(records)
            except psycopg2.errors.LockNotAvailable:
                left -= 1
                _logger.info("%s: locked by somebody, and tried again later", records)
                if not left:
                    return

    @api.model
    def _owner_context(self, job):
        user = job.user_id
        own = user.with_user(user).context_get()
        # A company that was archived is not among them, though users may still have it.
        allowed = user._get_company_ids()
        # The job's is known already; that of its user nearly always need not be read.
        company = job.company_id if job.company_id.id in allowed else user.company_id
        companies = company.ids if company.id in allowed else []
        return {"lang": own["lang"], "tz": own["tz"], "allowed_company_ids": companies}

    @api.model
    def _call_hook(self, job):
        thread = job.thread_id.with_user(job.user_id).with_context(
            tracking_disable=False, **self._owner_context(job)
        )
        try:
            with self.env.cr.savepoint():
                thread._on_generation_job_done(job.with_env(thread.env))
        except BaseException as error:
            if self._is_set_aside(error):
                raise
            # The answer is paid for: another addon's bug must not undo it.
            told = traceback_of(error)
            _logger.error(  # noqa: TRY400 it is redacted
                "The hook of thread %s failed on job %s\n%s", thread.id, job.id, told
            )
