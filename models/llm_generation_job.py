from odoo import api, fields, models
from odoo.exceptions import AccessError, UserError

from ..const import (
    ACTIVE_STATES,
    DEFAULT_MAX_RETRIES,
    DEFAULT_PRIORITY,
    DEFAULT_RETENTION_DAYS,
    ERROR_TYPES,
    MAX_RETRIES,
    TRANSITIONS,
)
from ..engine import sql
from ..engine.sql import DUE, HAS_DUE
from .llm_generation_bounds import BOUNDS


class LlmGenerationJob(models.Model):
    """One answer asked of a provider. How its state moves is in `llm_generation_state.py`."""

    _name = "llm.generation.job"
    _description = "LLM Generation Job"
    _inherit = [
        "llm.generation.guard",
        "llm.generation.bounds",
        "llm.generation.request",
        "llm.generation.state",
        "llm.generation.ticket",
    ]
    _order = "id desc"
    # Each row is written four times within seconds. Whose a job is tells `user_id`, when it moved
    # its own dates; who wrote it last would always be the engine.
    _log_access = False

    create_date = fields.Datetime("Created", default=fields.Datetime.now, readonly=True, copy=False)
    # Not `readonly`: the ORM would compute these one by one for thousands of jobs, though
    # `create()` knows them. Nobody writes them by hand: see `llm.generation.guard`.
    name = fields.Char(compute="_compute_name", store=True, precompute=True, readonly=False)
    # its index: figures of a thread, SCHEDULE_BUSY, and what goes with a thread
    thread_id = fields.Many2one("llm.thread", required=True, ondelete="cascade", index=True)
    provider_id = fields.Many2one(
        "llm.provider",
        compute="_compute_from_thread",
        store=True,
        readonly=False,
        precompute=True,
        required=True,
        ondelete="restrict",
    )
    model_id = fields.Many2one(
        "llm.model",
        compute="_compute_from_thread",
        store=True,
        readonly=False,
        precompute=True,
        required=True,
        ondelete="restrict",
        domain="[('provider_id', '=', provider_id)]",
    )
    user_id = fields.Many2one(
        "res.users",
        default=lambda self: self.env.user,
        required=True,
        readonly=True,
        help="The generation runs with the rights, language and companies of this user.",
    )
    company_id = fields.Many2one(
        "res.company", compute="_compute_company_id", store=True, precompute=True, readonly=False
    )
    priority = fields.Integer(default=DEFAULT_PRIORITY, aggregator=None, help="Lower runs first.")
    scheduled_at = fields.Datetime(
        "Not Before", copy=False, help="The job waits at least until then."
    )
    identity_key = fields.Char(
        copy=False,
        help="At most one waiting or running job of a company has this key. A key that a user"
        " gives by hand is compared with that user's own keys only.",
    )
    identity_scope = fields.Integer(
        readonly=True,
        copy=False,
        aggregator=None,
        groups="base.group_system",
        help="The user who gave the key by hand; 0 for a key of code.",
    )
    generation_inputs = fields.Json()
    provider_data = fields.Json(readonly=True, copy=False)
    # the indexes of both messages: PostgreSQL looks here whenever any message of Odoo is deleted
    input_message_id = fields.Many2one(
        "mail.message", index="btree_not_null", ondelete="set null", copy=False
    )
    output_message_id = fields.Many2one(
        "mail.message", index="btree_not_null", ondelete="set null", readonly=True, copy=False
    )
    external_job_id = fields.Char("Job at the Provider", readonly=True, copy=False)
    progress = fields.Float(
        readonly=True, copy=False, aggregator="avg", help="Per cent, where the provider tells."
    )
    error_type = fields.Selection(ERROR_TYPES, readonly=True, copy=False)
    error_message = fields.Text(readonly=True, copy=False)
    retry_count = fields.Integer("Retries", readonly=True, copy=False, aggregator=None)
    max_retries = fields.Integer(
        default=lambda self: min(
            self.env["llm.generation.queue"]._default_setting("max_retries", DEFAULT_MAX_RETRIES),
            MAX_RETRIES,
        ),
        aggregator=None,
    )
    retry_at = fields.Datetime(
        "Next Retry", readonly=True, copy=False, help="When the failed job is queued again."
    )
    prompt_tokens = fields.Integer(readonly=True, copy=False)
    completion_tokens = fields.Integer(readonly=True, copy=False)
    attempt_ids = fields.One2many("llm.generation.attempt", "job_id", readonly=True)

    is_active = fields.Boolean(compute="_compute_abilities")
    can_retry = fields.Boolean(compute="_compute_abilities")
    can_cancel = fields.Boolean(compute="_compute_abilities")
    queue_position = fields.Integer(compute="_compute_queue_position", aggregator=None)

    # Each index costs each job a write, and stays only for a statement of the engine or a screen:
    # the claim takes the head of a queue in its order, CLAIM; queues with something, READY_QUEUES
    _claim_idx = models.Index(
        "(provider_id, priority, fair_rank, queued_at, id)"
        " WHERE state = 'queued' AND is_scheduled IS NOT TRUE"
    )
    # counts of what runs (CLAIM), a user's last turn (ENQUEUE), counts and "retry" of the dashboard
    _open_idx = models.Index(
        "(provider_id, state, priority, user_id, fair_rank)"
        " WHERE state IN ('draft', 'queued', 'running')"
        " OR (state = 'failed' AND retry_count < max_retries)"
    )
    # when a runner has to look again, and at what: NEXT_DUE, SCHEDULE, CLAIM_POLLS, DUE_RETRIES, …
    _due_idx = models.Index(f"({DUE}) WHERE {HAS_DUE}")
    # the dashboard, which reads nothing else; the clean-up
    _statistics_idx = models.Index(
        "(provider_id, completed_at) INCLUDE"
        " (state, duration, queue_duration, prompt_tokens, completion_tokens)"
        " WHERE completed_at IS NOT NULL"
    )
    # a user's list of jobs, newest first: the record rule names the user
    _user_idx = models.Index("(user_id, id)")
    # no statement, but a promise: see its message
    _identity_unique = models.UniqueIndex(
        "(COALESCE(company_id, 0), COALESCE(identity_scope, 0), identity_key)"
        " WHERE identity_key IS NOT NULL AND state IN ('queued', 'running')",
        "A job with this identity key is already waiting or running.",
    )
    _completed_at_when_final = models.Constraint(
        "CHECK((completed_at IS NOT NULL) = (state IN ('completed', 'failed', 'cancelled')))",
        "A job has an end date exactly when it has ended.",
    )
    _max_retries_bounded = models.Constraint(
        f"CHECK(max_retries BETWEEN 0 AND {MAX_RETRIES})",
        "The number of retries is from 0 to 100.",
    )

    def init(self):
        self.env["llm.generation.engine"]._change(sql.JOBS, touches=())
        return super().init()

    # === COMPUTE METHODS === #

    @api.depends("thread_id", "model_id")
    def _compute_name(self):
        for job in self:
            parts = (job.thread_id.sudo().name, job.model_id.sudo().name)  # sudo: one name for all
            job.name = " · ".join(part for part in parts if part)[: BOUNDS["char"]]

    @api.depends("thread_id")
    def _compute_from_thread(self):
        for job in self:
            job.provider_id = job.provider_id or job.thread_id.provider_id
            job.model_id = job.model_id or job.thread_id.model_id

    @api.depends("provider_id", "user_id", "thread_id")
    def _compute_company_id(self):
        for job in self:
            job.company_id = self._company_of(job.user_id, job.provider_id, job.thread_id)

    @api.model
    def _company_of(self, user, provider, thread=None):
        """Return the company that a job belongs to: always one of its user's.

        That of the thread, else of the provider; where these are shared, the one that the user
        works in.
        """
        own = user._get_company_ids()
        # sudo: a job's company is no choice of who makes it.
        thread, provider, user = thread and thread.sudo(), provider.sudo(), user.sudo()
        candidates = [provider.company_id]
        if thread and "company_id" in thread._fields:
            candidates.insert(0, thread.company_id)
        if user == self.env.user:
            candidates.append(self.env.company)
        return next((company for company in candidates if company.id in own), user.company_id)

    @api.depends("state", "retry_count", "max_retries")
    def _compute_abilities(self):
        for job in self:
            job.is_active = job.state in ACTIVE_STATES
            job.can_retry = job.state == "failed" and job.retry_count < job.max_retries
            job.can_cancel = job.state in TRANSITIONS["cancelled"]

    @api.depends("state", "priority", "queued_at")
    def _compute_queue_position(self):
        positions = self.env["llm.generation.engine"]._queue_positions(self)
        for job in self:
            job.queue_position = positions.get(job.id, 0)

    # === ACTION METHODS === #

    def action_queue(self):
        """Validate the inputs and let the jobs wait for a slot of their queue.

        The work starts when the caller's transaction commits, and not at all if it rolls back.

        :raise AccessError: for the draft of somebody else, whoever asks
        :raise UserError: for a job that is no draft, or whose inputs the model refuses
        """
        self.check_access("read")
        if any(job.state != "draft" for job in self):
            raise UserError(self.env._("Only a draft can be queued. Use Retry for a failed job."))
        if not self.env.su and self.user_id - self.env.user:
            raise AccessError(
                self.env._("A draft is queued by its owner only: it runs with their rights.")
            )
        self._check_inputs()
        self.env["llm.generation.engine"]._enqueue(self)
        return True

    def action_start(self):
        """Ask for these jobs to be started now, ahead of others, within their queue's limit.

        :raise UserError: for a job that does not wait
        """
        self._refuse_unless("running", self.env._("Only a queued job can be started."))
        self.env["llm.generation.engine"]._start_now(self)
        return True

    @api.private
    def action_complete(self, output_message_id=None):
        """End running jobs well; called by code that got the answer by other means.

        :param output_message_id: the answer's message, a record or an id
        :raise UserError: for a job that does not run
        """
        self._refuse_unless("completed", self.env._("Only a running job can be completed."))
        values = {"progress": 100.0, "error_type": False, "error_message": False}
        if output_message_id:
            values["output_message_id"] = getattr(output_message_id, "id", output_message_id)
        self._set_state("completed", **values)
        return True

    @api.private
    def action_fail(self, error_message=None):
        """End waiting or running jobs with an error.

        :param str error_message: what went wrong
        :raise UserError: for a job that neither waits nor runs
        """
        self._refuse_unless("failed", self.env._("Only a queued or running job can fail."))
        self._set_state(
            "failed",
            error_type="provider_failed",
            error_message=error_message or self.env._("The generation failed."),
        )
        return True

    def action_retry(self):
        """Queue failed jobs again, at the end of the queue.

        :raise UserError: for a job that did not fail, or has no retry left
        """
        self.check_access("read")
        if any(job.state != "failed" for job in self):
            raise UserError(self.env._("Only a failed job can be retried."))
        if not all(job.can_retry for job in self):
            raise UserError(
                self.env._("No retry is left. A manager can raise Max Retries and try again.")
            )
        self.env["llm.generation.engine"]._enqueue(self, sources=("failed",))
        return True

    def action_cancel(self):
        """Give the jobs up; a running one is stopped, and its provider told.

        :raise UserError: for a job that has ended
        """
        self._refuse_unless(
            "cancelled", self.env._("This job has already ended; there is nothing to cancel.")
        )
        self._set_state("cancelled", is_scheduled=False)
        return True

    def action_open_thread(self):
        """Open the conversation that the job belongs to."""
        self.ensure_one()
        return {
            "type": "ir.actions.act_window",
            "res_model": "llm.thread",
            "res_id": self.thread_id.id,
            "views": [(False, "form")],
        }

    # === HOOKS === #
    # What other addons extend, each with `super()`. They get many jobs at once, and work in the
    # transaction that moves the jobs; `_after_move()` and `_after_end()` as superuser.

    def _before_enqueue(self, sources):
        """Refuse jobs that are about to be queued, or reserve for them.

        Called for all jobs of a call at once, before any of them moves. What it raises leaves all
        of them as they are.

        :param sources: the states that are left: `("draft",)`, or `("failed",)` for a retry
        :raise UserError: a sentence for who queues them
        """

    def _after_move(self, target, was_running):
        """See to what follows from a move of these jobs; all of them have it behind them.

        :param str target: the state that they are in now; of `failed`, `retry_at` says whether
            they will be tried again by themselves
        :param was_running: those of them that ran before
        """

    def _after_end(self):
        """See to what follows from the end of these jobs, which is for good.

        They are completed, cancelled, or failed without an automatic retry ahead. Called after
        `_after_move()`, or when the retry that was ahead of a failed job is given up. A retry by
        hand can have a job end once more.
        """

    def _may_retry(self, *, is_due=False):
        """Return those of these failed jobs that may be queued again now.

        :param bool is_due: nobody asked for it: their automatic retry is due. Then it waits for no
            lock, and writes on each job that it leaves out when that is due again (`retry_at`).
        """
        return self

    def _retry_refusal(self):
        """Return why `_may_retry()` leaves jobs out, for people: what follows "could not: "."""
        return self.env._("may not be tried again now")

    # === BUSINESS METHODS === #

    def check_status(self):
        """Ask the provider now and apply its answer.

        Afterwards the record shows the newest committed state, even in a long transaction whose
        snapshot hides it.

        :return: the provider's answer as a dict, False where there is nothing to ask
        :raise UserError: when the job was queued in this very transaction
        """
        self.ensure_one()
        self.check_access("read")
        return self.env["llm.generation.engine"]._check_now(self)

    @api.private
    def cleanup_old_jobs(self, days=DEFAULT_RETENTION_DAYS):
        """Remove the jobs that ended more than `days` ago; their messages stay.

        :return: how many were removed
        """
        return self.env["llm.generation.engine"]._clean_up(days)[0]

    @api.model
    def _cron_clean_up(self):
        """Remove the jobs that are older than the retention that the settings say."""
        self.env["llm.generation.engine"]._clean_up_in_time()
