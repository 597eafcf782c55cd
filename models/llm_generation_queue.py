from decimal import Decimal, InvalidOperation

from odoo import api, fields, models
from odoo.exceptions import AccessError, UserError, ValidationError
from odoo.fields import Domain
from odoo.tools import str2bool

from ..const import (
    DEFAULT_JOB_TIMEOUT,
    DEFAULT_MAX_CONCURRENT,
    DEFAULT_RETRY_DELAY_MINUTES,
    LAST_ID,
    RETRYING,
    SETTING_RANGES,
    STATES,
)
from ..protocol.signatures import key_of_secret

HEALTH = [
    ("healthy", "Healthy"),
    ("warning", "Warning"),
    ("critical", "Critical"),
    ("disabled", "Paused"),
]
#: What may let more jobs start.
SLOT_FIELDS = {"enabled", "max_concurrent_jobs", "requests_per_minute", "tokens_per_minute"}
#: What the engine, or the provider, brought about: nobody writes it over RPC.
ENGINE_FIELDS = frozenset({
    "company_id",
    "paused_until",
    "refused_by",
    "stopped_since",
    "stopped_words",
})


class LlmGenerationQueue(models.Model):
    """How the jobs of one provider are run: limits, retries, and the figures to judge them."""

    _name = "llm.generation.queue"
    _description = "LLM Generation Queue"
    _inherit = ["llm.generation.bounds", "mail.thread", "mail.activity.mixin"]
    _rec_name = "provider_id"
    _order = "id"

    provider_id = fields.Many2one(
        "llm.provider", required=True, readonly=True, index=True, ondelete="cascade"
    )
    company_id = fields.Many2one(related="provider_id.company_id", store=True)
    enabled = fields.Boolean(
        "Starts Jobs",
        default=True,
        tracking=True,
        help="A paused queue starts nothing, lets what runs finish, and keeps what waits.",
    )
    max_concurrent_jobs = fields.Integer(
        "Jobs at the Same Time",
        default=lambda self: self._default_setting("max_concurrent_jobs", DEFAULT_MAX_CONCURRENT),
        required=True,
        tracking=True,
        help="Jobs of this provider that run at the same time, on all servers together.",
    )
    requests_per_minute = fields.Integer(tracking=True, help="0 means no limit.")
    tokens_per_minute = fields.Integer(tracking=True, help="0 means no limit.")
    auto_retry_failed = fields.Boolean(
        "Retry Failed Jobs Automatically",
        default=True,
        tracking=True,
        help="Retry failed jobs when their error may pass.",
    )
    retry_delay_minutes = fields.Float(
        default=lambda self: self._default_setting(
            "retry_delay_minutes", DEFAULT_RETRY_DELAY_MINUTES
        ),
        tracking=True,
        help="Longest wait before the first retry; it doubles with each further one.",
    )
    job_timeout = fields.Integer(
        "Job Timeout (s)",
        default=lambda self: self._default_setting("job_timeout", DEFAULT_JOB_TIMEOUT),
        tracking=True,
        help="Seconds after which a running job is stopped and counts as failed. 0 means never.",
    )
    model_limit_ids = fields.One2many("llm.generation.model.limit", "queue_id")
    webhook_secret = fields.Char(
        copy=False,
        prefetch=False,
        groups=fields.NO_ACCESS,
        help="With this secret the provider signs its webhooks, by the Standard Webhooks"
        " specification. Without one they are refused.",
    )
    always_queue = fields.Boolean(
        default=lambda self: self._default_setting("always_queue", False),
        tracking=True,
        help="Every answer goes through the queue, even when it is idle, unless code asks for one"
        " directly with use_queue=False.",
    )
    paused_until = fields.Datetime(
        readonly=True,
        help="Nothing starts before: the provider asked for a pause, or the disk is full.",
    )
    is_cooling = fields.Boolean(compute="_compute_is_cooling", help="That pause is not over yet.")
    refused_by = fields.Selection(
        [("authentication", "Authentication"), ("quota", "Quota")],
        readonly=True,
        help="Why the provider refuses our account, until a call succeeds again.",
    )
    stopped_since = fields.Datetime(
        readonly=True, help="Since when the queue is paused, or its provider pauses or refuses us."
    )
    stopped_words = fields.Char(
        readonly=True, groups="llm.group_llm_manager", help="What the provider said then."
    )
    last_processed_at = fields.Datetime(compute="_compute_statistics")

    current_running_jobs = fields.Integer(compute="_compute_statistics")
    queued_jobs_count = fields.Integer(compute="_compute_statistics")
    total_jobs_today = fields.Integer(compute="_compute_statistics")
    avg_queue_time = fields.Float("Average Wait (s)", compute="_compute_statistics")
    avg_processing_time = fields.Float("Average Run Time (s)", compute="_compute_statistics")
    success_rate = fields.Float("Success Rate (%)", compute="_compute_statistics")
    throughput = fields.Float("Jobs per Hour", compute="_compute_statistics")
    queue_health = fields.Selection(HEALTH, compute="_compute_statistics")
    health_reason = fields.Char(compute="_compute_statistics")
    buttons = fields.Json(
        compute="_compute_statistics", help="What its user can do about it: see the dashboard."
    )
    recent_job_ids = fields.Many2many("llm.generation.job", compute="_compute_recent_job_ids")

    jobs_by_hour = fields.Json(
        "Jobs Ended by Hour",
        compute="_compute_statistics",
        help="Jobs that completed, and that failed, in each of the last 24 hours.",
    )
    has_webhook_secret = fields.Boolean(
        compute="_compute_webhook_secret", groups="llm.group_llm_manager"
    )
    new_webhook_secret = fields.Char(
        "Webhook Secret",
        compute="_compute_webhook_secret",
        inverse="_inverse_new_webhook_secret",
        groups="llm.group_llm_manager",
        help="The secret that the provider shows where webhooks are set up. Once saved it is not"
        " shown again.",
    )

    _provider_unique = models.UniqueIndex("(provider_id)", "A provider has one queue.")
    _max_concurrent_positive = models.Constraint(
        "CHECK(max_concurrent_jobs >= 1)", "A queue runs at least one job at a time."
    )
    _limits_not_negative = models.Constraint(
        "CHECK(requests_per_minute >= 0 AND tokens_per_minute >= 0"
        " AND retry_delay_minutes >= 0 AND job_timeout >= 0)",
        "Limits, delays and timeouts cannot be negative.",
    )

    @api.model
    def _default_setting(self, name, default):
        """Return what a parameter says, by the type of its default, which counts where it is none.

        A parameter is a text, which anybody may have written there: "False" means no, and a number
        beyond its range is the nearest one within.
        """
        # sudo: parameters are the administrators'.
        value = self.env["ir.config_parameter"].sudo().get_param(f"llm_generate_job.{name}")
        text = str(value or "").strip()
        if not text or isinstance(default, str):
            return text or default
        if isinstance(default, bool):
            return str2bool(text, default)
        try:
            least, most = SETTING_RANGES.get(name, (0, LAST_ID))
            return type(default)(min(most, max(least, Decimal(text))))
        except InvalidOperation:
            return default

    # === COMPUTE METHODS === #

    @api.depends("enabled", "max_concurrent_jobs", "paused_until", "refused_by")
    @api.depends_context("uid", "su", "allowed_company_ids", "lang", "tz")
    def _compute_statistics(self):
        Figures = self.env["llm.generation.engine"]
        figures = Figures._statistics(self)
        configured = self._filtered_access("write")  # not what all companies share
        for queue in self:
            queue.update(Figures._values(queue, figures[queue.id]))
            # sudo: whether its provider is active is told by its buttons.
            buttons = queue.sudo()._dashboard_buttons(figures[queue.id])
            queue.buttons = buttons if queue in configured else []

    @api.depends("enabled", "paused_until")
    def _compute_is_cooling(self):
        now = fields.Datetime.now()
        for queue in self:
            queue.is_cooling = queue.enabled and (queue.paused_until or now) > now

    @api.depends_context("uid", "su", "allowed_company_ids")
    def _compute_recent_job_ids(self):
        for queue in self:
            domain = Domain("provider_id", "=", queue.provider_id.id)
            queue.recent_job_ids = self.env["llm.generation.job"].search(domain, limit=10)

    @api.depends("webhook_secret")
    def _compute_webhook_secret(self):
        stored = self._filtered_access("read")._origin
        # sudo: whether there is a secret may be known, the secret not; a search caches neither.
        with_secret = stored.sudo().search([
            ("id", "in", stored.ids),
            ("webhook_secret", "!=", False),
        ])
        for queue in self:
            queue.has_webhook_secret = queue._origin.id in with_secret.ids
            queue.new_webhook_secret = False

    def _inverse_new_webhook_secret(self):
        """Keep the secret that was typed in; an empty one changes nothing.

        :raise UserError: for a secret that no signature can be made with
        """
        for queue in self.filtered("new_webhook_secret"):
            secret = queue.new_webhook_secret.strip()
            if not key_of_secret(secret):
                raise UserError(
                    self.env._(
                        "This is no webhook secret. Copy all of it from the provider: it is made"
                        " of letters, digits, + and /, and may begin with whsec_."
                    )
                )
            # sudo: the field is closed to all; who may write this one was checked.
            queue.sudo().webhook_secret = secret
            queue._message_log(body=self.env._("The webhook secret was changed."))

    # === CRUD METHODS === #
    # The engine writes as superuser. A remote call gets that only by code of others that works as
    # superuser with what it is given, as the mail gateway does: see `models/mail_message.py`.

    @api.model_create_multi
    def create(self, vals_list):
        given = {key.removeprefix("default_") for key in self.env.context if key[:8] == "default_"}
        self._refuse_by_hand(given.union(*vals_list) & self._engine_fields())
        return super().create(vals_list)

    def write(self, vals):
        self._refuse_by_hand(vals.keys() & (self._engine_fields() | {"provider_id"}))
        changed = self.filtered(lambda queue: queue.enabled != vals.get("enabled", queue.enabled))
        result = super().write(vals)
        for queue in changed.sudo():  # sudo: the engine's; who may enable it was asked before
            if not (queue.enabled and (queue.refused_by or queue.paused_until)):
                super(LlmGenerationQueue, queue).write({
                    "stopped_since": False if queue.enabled else fields.Datetime.now()
                })
        if not vals.get("auto_retry_failed", True):
            # sudo: the engine's; who may switch it off was asked before.
            Job = self.env["llm.generation.job"].sudo()
            planned = Job.search(
                Domain("provider_id", "in", self.provider_id.ids) & Domain(RETRYING.domain)
            )
            self.env["llm.generation.engine"]._stop_retrying(planned)
        if vals.keys() & SLOT_FIELDS:
            self.env["llm.generation.engine"]._wake_for_queues(self.ids)
        return result

    @api.model
    def _engine_fields(self):
        return ENGINE_FIELDS

    @api.model
    def _refuse_by_hand(self, names):
        if names and not self.env.su:
            raise AccessError(
                self.env._(
                    "%(fields)s of a queue cannot be set by hand.", fields=", ".join(sorted(names))
                )
            )

    @api.ondelete(at_uninstall=False)
    def _unlink_except_with_provider(self):
        raise UserError(
            self.env._("A queue goes with its provider. Pause it to stop it from starting jobs.")
        )

    # === MAIL === #
    # Mail comes as superuser, in the name of whoever is said to have sent it.

    @api.model
    @api.private
    def message_new(self, msg_dict, custom_values=None):
        """Refuse what comes by mail."""
        self._refuse_mail()

    @api.private
    def message_update(self, msg_dict, update_vals=None):
        """Refuse what comes by mail."""
        self._refuse_mail()

    # === ACTION METHODS === #

    def action_enable(self):
        """Let the queues start jobs; ends a pause, too."""
        self.write({"enabled": True})
        self._resume()
        return True

    def action_disable(self):
        """Start nothing more; what runs finishes, what waits is kept."""
        self.write({"enabled": False})
        return True

    def action_process_queue(self):
        """Start what may start now, pauses set aside."""
        self.check_access("write")
        self._resume()
        if self.env["llm.generation.engine"]._is_inline():
            self.env["llm.generation.engine"]._process(self)
        return True

    def _resume(self):
        self.check_access("write")
        # sudo: these are the engine's, and managers end a pause by this way only.
        self.sudo().write({
            "paused_until": False,
            "refused_by": False,
            "stopped_since": False,
            "stopped_words": False,
        })
        # sudo: as above
        self.env["llm.generation.model.pause"].sudo().search([
            ("queue_id", "in", self.ids)
        ]).unlink()
        self.env["llm.generation.engine"]._wake_for_queues(self.ids)

    def action_clear_queue(self):
        """Cancel every job that waits, as far as the caller may see it.

        :return: how many were cancelled
        """
        self.check_access("write")
        return self.env["llm.generation.engine"]._cancel_waiting(self.provider_id)

    def action_retry_failed_jobs(self):
        """Queue again every failed job that has a retry left and may be tried again now.

        Those that the caller may not see are left alone.

        :return: how many were queued
        """
        self.check_access("write")
        failed = self.env["llm.generation.job"].search(self._jobs_domain("failed"))
        failed = failed.filtered("can_retry")._filtered_identity_free()._may_retry()
        failed.action_retry()
        return len(failed)

    def action_view_jobs(self):
        """Open what these queues count: what waits, runs, or has ended within 24 hours."""
        return self._open_jobs("lately")

    def action_view_jobs_of_today(self):
        """Open what `total_jobs_today` counts."""
        return self._open_jobs("counted_today")

    def _open_jobs(self, search_filter):
        action = self.env["ir.actions.act_window"]._for_xml_id(
            "llm_generate_job.llm_generation_job_action"
        )
        return {
            **action,
            "domain": [("provider_id", "in", self.provider_id.ids)],
            "context": {f"search_default_{search_filter}": 1},
        }

    def action_open_trouble(self):
        """Open what the health of the queue is about: its provider, or the jobs that failed."""
        self.ensure_one()
        if self.refused_by:
            return self.provider_id._get_records_action()
        return self._open_jobs("failed")

    def _jobs_domain(self, state):
        return Domain("state", "=", state) & Domain("provider_id", "in", self.provider_id.ids)

    def action_remove_webhook_secret(self):
        """Forget the secret: webhooks of the provider are refused from now on."""
        self.check_access("write")
        for queue in self.filtered("has_webhook_secret"):
            # sudo: the field is closed to all; the right to write was checked.
            queue.sudo().webhook_secret = False
            queue._message_log(body=self.env._("The webhook secret was removed."))

    def action_bulk_retry_failed(self):
        """Retry what failed in these queues, some at a time, and say what came of it."""
        return self._bulk_action_on("failed", "retry")

    def action_bulk_clear(self):
        """Cancel what waits in these queues, some at a time, and say what came of it."""
        return self._bulk_action_on("queued", "clear")

    def _bulk_action_on(self, state, what):
        """Return the action on those of the jobs in a state that the caller may see."""
        self.check_access("write")
        domain = self._jobs_domain(state)
        jobs = self.env["llm.generation.job"].search(domain)
        # sudo: how many there are besides, and nothing else of them.
        left = jobs.sudo().search_count(domain) - len(jobs)
        return jobs._bulk_action(what, left=left)

    # === BUSINESS METHODS === #

    @api.model
    def _get_or_create_queue(self, provider_id):
        """Return the queue of a provider, making it at first use.

        Safe when several processes use a provider for the first time at once.

        :param provider_id: a record of `llm.provider`, or an id
        """
        provider = getattr(provider_id, "id", provider_id)
        if not provider:
            raise UserError(self.env._("Choose a provider: each one has its own queue."))
        # sudo: each provider has one queue, also where the user may not see it.
        queue = self.sudo().search([("provider_id", "=", provider)], limit=1)
        if not queue:
            queue = self.env["llm.generation.engine"]._create_queue(provider)
        return queue.sudo(self.env.su)

    @api.model
    def _process_provider_queue(self, provider):
        """Start the jobs of one provider that may start now.

        :param provider: a record of `llm.provider`, or an id
        :return: how many jobs were started
        """
        queue = self._get_or_create_queue(provider)
        return self.env["llm.generation.engine"]._process(queue)

    @api.model
    def _process_all_queues(self):
        """Start every job that may start now, and keep starting; the scheduled action's entry.

        :return: how many jobs were started in this call
        """
        return self.env["llm.generation.engine"]._process(
            # sudo: the scheduled action works for everybody.
            self.sudo().search([("enabled", "=", True)])
        )

    @api.model
    def _check_job_statuses(self):
        """Ask the providers about the jobs that they run.

        :return: how many jobs were asked about
        """
        return self.env["llm.generation.engine"]._check_due()

    @api.model
    def _auto_retry_failed_jobs(self):
        """Queue again the failed jobs whose retry is due.

        :return: how many were queued
        """
        return self.env["llm.generation.engine"]._retry_due()

    def get_queue_stats(self):
        """Return what there is to know of each queue.

        :return: a dict for one queue, a list of dicts for several
        """
        self.check_access("read")
        figures = self.env["llm.generation.engine"]._statistics(self)
        stats = [queue._stats(figures[queue.id]) for queue in self]
        return stats[0] if len(stats) == 1 else stats

    def _stats(self, figures):
        # sudo: who may see a queue may see the name of its provider, too.
        provider = self.provider_id.sudo()
        values = self.env["llm.generation.engine"]._values(self, figures)
        performance = ("avg_queue_time", "avg_processing_time", "success_rate", "throughput")
        return {
            "queue_id": self.id,
            "queue_name": self.display_name,
            "provider_id": provider.id,
            "provider_name": provider.name,
            "enabled": self.enabled,
            "max_concurrent_jobs": self.max_concurrent_jobs,
            "requests_per_minute": self.requests_per_minute,
            "tokens_per_minute": self.tokens_per_minute,
            "health": values["queue_health"],
            "health_reason": values["health_reason"],
            "job_counts": {state: figures[state] for state, _label in STATES},
            "performance": {name: values[name] for name in (*performance, "total_jobs_today")},
            "last_processed_at": values["last_processed_at"],
        }


class LlmGenerationBucket(models.Model):
    """What the engine keeps of a queue: its allowance of requests and tokens, its last work.

    Apart from the queue, so that a claim never collides with a manager who saves its settings.
    """

    _name = "llm.generation.bucket"
    _description = "LLM Generation Allowance"
    _log_access = False

    queue_id = fields.Many2one("llm.generation.queue", required=True, ondelete="cascade")
    request_level = fields.Float(required=True, default=0)
    token_level = fields.Float(required=True, default=0)
    filled_at = fields.Datetime(required=True, default=fields.Datetime.now)

    processed_at = fields.Datetime()

    _queue_unique = models.UniqueIndex("(queue_id)")


class LlmGenerationModelPause(models.Model):
    """A model of which nothing starts for a while, as its provider refuses or limits it.

    Apart from the limits, which are the managers', and from the models, which are the family's.
    """

    _name = "llm.generation.model.pause"
    _description = "LLM Generation Model Pause"
    _log_access = False

    queue_id = fields.Many2one("llm.generation.queue", required=True, ondelete="cascade")
    model_id = fields.Many2one("llm.model", required=True, index=True, ondelete="cascade")
    paused_until = fields.Datetime(required=True)
    refused_by = fields.Char()
    stopped_since = fields.Datetime()
    stopped_words = fields.Char()

    _model_unique = models.UniqueIndex("(queue_id, model_id)")


class LlmGenerationModelLimit(models.Model):
    """A limit of one model, within that of its provider's queue."""

    _name = "llm.generation.model.limit"
    _description = "LLM Generation Model Limit"
    _inherit = ["llm.generation.bounds"]
    _rec_name = "model_id"

    queue_id = fields.Many2one(
        "llm.generation.queue", required=True, index=True, ondelete="cascade"
    )
    provider_id = fields.Many2one(related="queue_id.provider_id")
    model_id = fields.Many2one(
        "llm.model",
        required=True,
        index=True,
        ondelete="cascade",
        domain="[('provider_id', '=', provider_id)]",
    )
    max_concurrent_jobs = fields.Integer("Jobs at the Same Time", default=1, required=True)

    _model_unique = models.UniqueIndex(
        "(queue_id, model_id)", "This model already has a limit in this queue."
    )
    _max_concurrent_positive = models.Constraint(
        "CHECK(max_concurrent_jobs >= 1)", "A model runs at least one job at a time."
    )

    @api.constrains("queue_id", "model_id")
    def _check_model_id(self):
        # Who reads a limit is shown the name of its model: who reads the queue reads both.
        for limit in self:
            # sudo: whose model it is does not depend on who asks.
            if limit.sudo().model_id.provider_id != limit.sudo().queue_id.provider_id:
                raise ValidationError(
                    self.env._("The model of a limit must be one of the provider of its queue.")
                )

    # === CRUD METHODS === #

    @api.model_create_multi
    def create(self, vals_list):
        limits = super().create(vals_list)
        for limit in limits:
            limit._log(limit.env._("%s jobs at the same time", limit.max_concurrent_jobs))
        return limits

    def write(self, vals):
        before = {limit.id: (limit.model_id, limit.max_concurrent_jobs) for limit in self}
        queues = self.queue_id
        result = super().write(vals)
        if vals.keys() & {"queue_id", "model_id"}:
            # Record rules look at the values before: nobody may push a limit onto another queue.
            self.check_access("write")
        for limit in self:
            model, number = before[limit.id]
            if (model, number) != (limit.model_id, limit.max_concurrent_jobs):
                limit._log(
                    limit.env._(
                        "%(after)s jobs at the same time (before: %(model)s, %(number)s)",
                        after=limit.max_concurrent_jobs,
                        # sudo: the model may be of a company that the manager has left.
                        model=model.sudo().name,
                        number=number,
                    )
                )
        self.env["llm.generation.engine"]._wake_for_queues((queues | self.queue_id).ids)
        return result

    def unlink(self):
        for limit in self:
            limit._log(limit.env._("no limit of its own any more"))
        self.env["llm.generation.engine"]._wake_for_queues(self.queue_id.ids)
        return super().unlink()

    def _log(self, what):
        """Note in the chatter of the queue what became of the limit."""
        if not self.env.context.get("tracking_disable"):
            body = self.env._(
                "Limit of the model %(model)s: %(what)s", model=self.model_id.name, what=what
            )
            self.queue_id._message_log(body=body)
