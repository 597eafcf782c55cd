import contextlib
import json
import re
import secrets

from markupsafe import Markup

from odoo import SUPERUSER_ID, api, fields, models
from odoo.exceptions import AccessError, UserError
from odoo.fields import Domain
from odoo.tools import ormcache

from ..const import (
    ACTIVE_STATES,
    DEFAULT_MAX_RETRIES,
    DEFAULT_PRIORITY,
    DEFAULT_RETENTION_DAYS,
    ERROR_MESSAGE_LIMIT,
    ERROR_TYPES,
    FINAL_STATES,
    FINISH_REASONS,
    HOPELESS,
    MAX_RETRIES,
    MEDIA_USES,
    RETRYING,
    STATES,
    TRANSITIONS,
    WEBHOOK_PATH,
)
from ..engine import sql
from ..engine.claim import ENDED_AT_PROVIDER
from ..engine.sql import DUE, HAS_DUE
from ..engine.statistics import NO_RUNNER
from ..protocol import ratelimit, tokens
from ..protocol.answer import WRITTEN
from ..protocol.sanitize import redact
from ..protocol.schema import validator
from ..runner.executor import received
from .llm_generation_bounds import BOUNDS
from .llm_provider import read_secret

#: What the owner of a job may write over RPC, and only while it is a draft.
OWNER_FIELDS = frozenset({
    "generation_inputs",
    "identity_key",
    "input_message_id",
    "max_retries",
    "model_id",
    "post",
    "priority",
    "provider_id",
    "scheduled_at",
    "thread_id",
})
#: What a manager may write over RPC while a job waits.
MANAGER_FIELDS = frozenset({"max_retries", "priority", "scheduled_at"})
#: How an error begins that a provider's status tells.
HTTP_STATUS = re.compile(r"^HTTP \d+: ")
#: What the rest of a new job's values follows from.
GIVEN = ("thread_id", "provider_id", "model_id", "user_id")
#: What of its thread these values follow from, as far as the stack has it.
THREAD_FIELDS = ("name", "user_id", "provider_id", "model_id", "company_id")
#: Characters of JSON that a job asks, wherever they come from; files belong into attachments.
INPUT_LIMIT = BOUNDS["json"]
#: Of a field that the engine alone reads and writes.
ENGINE_ONLY = {"readonly": True, "copy": False, "groups": "base.group_system"}
#: What a provider's code may write on the job that it works for, instead of returning it.
ANSWER_FIELDS = frozenset({*WRITTEN, "completed_at", "started_at", "state"})
#: Characters of a file that comes with an answer and not as an address, in base 64.
FILE_LIMIT = 40_000_000
#: Of such a file, what a browser may show and not only save.
SHOWN_TYPES = re.compile(r"(?:image/(?!svg)|audio/|video/)[\w.+-]+\Z")
#: Seconds beyond which nobody knows when a job will start, or a backlog be done.
FORESEEABLE = 24 * 3600
#: What a person does not filter or group by, besides what only a group reads: no two jobs share it.
INTERNAL_FIELDS = frozenset({"generation_inputs", "provider_data"})
#: Letters that a search in questions and answers needs, and jobs that it looks at, the newest.
SEARCHED_LETTERS, SEARCHED_JOBS = 3, 20_000
#: Jobs that a web client selects at most; of a whole filter it sends the first ones only.
SELECTION_LIMIT = 20_000


class LlmGenerationJob(models.Model):
    """One answer asked of a provider: what is asked, who may do what, and how its state moves."""

    _name = "llm.generation.job"
    _description = "LLM Generation Job"
    _inherit = ["llm.generation.bounds"]
    _order = "id desc"
    # Each row is written four times within seconds. Whose a job is tells `user_id`, when it moved
    # its own dates; who wrote it last would always be the engine.
    _log_access = False

    create_date = fields.Datetime("Created", default=fields.Datetime.now, readonly=True, copy=False)
    # Not `readonly`: the ORM would compute these one by one for thousands of jobs, though
    # `create()` knows them. Nobody writes them by hand: see `OWNER_FIELDS`.
    name = fields.Char(
        compute="_compute_name", store=True, precompute=True, readonly=False, copy=False
    )
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
        "res.company",
        compute="_compute_company_id",
        store=True,
        precompute=True,
        readonly=False,
        copy=False,
        ondelete="restrict",  # without its company nobody would see it
    )
    state = fields.Selection(
        STATES,
        default="draft",
        required=True,
        readonly=True,
        copy=False,
        group_expand="_order_states",
    )
    queued_at = fields.Datetime(readonly=True, copy=False)
    started_at = fields.Datetime(readonly=True, copy=False)
    completed_at = fields.Datetime("Ended At", readonly=True, copy=False)
    duration = fields.Float(
        "Run Time (s)", readonly=True, copy=False, aggregator="avg", help="Seconds of processing."
    )
    queue_duration = fields.Float(
        "Wait (s)", readonly=True, copy=False, aggregator="avg", help="Seconds of waiting."
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
        aggregator=None,
        help="The user who gave the key by hand; 0 for a key of code.",
        **ENGINE_ONLY,
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
    post = fields.Boolean(
        "Post Messages",
        default=True,
        help="Without, question and answer are kept by the job alone: it takes no part in the"
        " conversation, and is removed with its answer.",
    )
    output = fields.Text(
        readonly=True, copy=False, exportable=False, prefetch=False, groups=fields.NO_ACCESS
    )
    is_kept = fields.Boolean(help="No clean-up removes it.", **ENGINE_ONLY)
    input_text = fields.Text("Question", compute="_compute_input_text")
    output_text = fields.Text(
        "Answer", compute="_compute_output_text", help="As the model wrote it."
    )
    conversation_text = fields.Char(
        "Question or Answer",
        store=False,
        copy=False,
        search="_search_conversation_text",
        help="Finds jobs by what was asked and answered, among the newest 20,000.",
    )
    external_job_id = fields.Char("Job at the Provider", readonly=True, copy=False)
    progress = fields.Float(
        readonly=True, copy=False, aggregator="avg", help="Per cent, where the provider tells."
    )
    finish_reason = fields.Selection(
        FINISH_REASONS,
        "Ended",
        readonly=True,
        copy=False,
        help="How the answer ended, where the provider tells.",
    )
    error_type = fields.Selection(ERROR_TYPES, readonly=True, copy=False)
    error_message = fields.Text(readonly=True, copy=False)
    retry_count = fields.Integer("Retries", readonly=True, copy=False, aggregator=None)
    max_retries = fields.Integer(
        default=lambda self: self.env["llm.generation.queue"]._default_setting(
            "max_retries", DEFAULT_MAX_RETRIES
        ),
        aggregator=None,
    )
    retry_at = fields.Datetime(
        "Next Retry", readonly=True, copy=False, help="When the failed job is queued again."
    )
    prompt_tokens = fields.Integer(readonly=True, copy=False)
    completion_tokens = fields.Integer(readonly=True, copy=False)
    attempt_ids = fields.One2many("llm.generation.attempt", "job_id", readonly=True)

    # Its place in the queue: read and written by the engine alone.
    attempt_token = fields.Integer(
        aggregator=None,
        help="The attempt that may end this job; any other finds itself overtaken.",
        **ENGINE_ONLY,
    )
    fair_rank = fields.Integer(
        aggregator=None,
        help="Whose turn it is among users of equal priority: each user has one job a turn.",
        **ENGINE_ONLY,
    )
    attempt_count = fields.Integer(aggregator=None, **ENGINE_ONLY)
    attempt_base = fields.Integer(
        aggregator=None, help="Attempts before a manager granted all retries anew.", **ENGINE_ONLY
    )
    is_scheduled = fields.Boolean(**ENGINE_ONLY)
    estimated_tokens = fields.Integer(**ENGINE_ONLY)
    next_poll_at = fields.Datetime(**ENGINE_ONLY)
    asked_at = fields.Datetime(**ENGINE_ONLY)
    polled_until = fields.Datetime(
        help="Until then somebody is asking the provider about the job, and nobody else does.",
        **ENGINE_ONLY,
    )
    poll_count = fields.Integer(aggregator=None, **ENGINE_ONLY)
    result_expires_at = fields.Datetime(**ENGINE_ONLY)
    cancel_requested = fields.Boolean(
        help="The provider has not confirmed yet that the job is cancelled there.", **ENGINE_ONLY
    )
    cancel_again_at = fields.Datetime(**ENGINE_ONLY)
    webhook_token = fields.Char(
        default=lambda self: secrets.token_urlsafe(),
        readonly=True,
        copy=False,
        exportable=False,
        prefetch=False,
        groups=fields.NO_ACCESS,
    )
    hinted_at = fields.Datetime(
        help="When a webhook or a user had the provider asked, or a webhook will.", **ENGINE_ONLY
    )
    poll_requested = fields.Boolean(
        help="The provider said that something happened, and was not asked since.", **ENGINE_ONLY
    )

    is_active = fields.Boolean(compute="_compute_abilities")
    can_retry = fields.Boolean(compute="_compute_abilities")
    can_cancel = fields.Boolean(compute="_compute_abilities")
    retry_refusal = fields.Char(
        compute="_compute_abilities", help="Why a failed job cannot be retried, and what to do."
    )
    queue_position = fields.Integer(compute="_compute_queue_position", aggregator=None)
    reason = fields.Char(compute="_compute_reason", help="Why the job waits, or why it failed.")

    # Each index costs each job a write, and stays only for a statement of the engine or a screen:
    # the claim takes the head of a queue in its order, CLAIM; queues with something, READY_QUEUES
    _claim_idx = models.Index(
        "(provider_id, priority, fair_rank, queued_at, id)"
        " WHERE state = 'queued' AND is_scheduled IS NOT TRUE"
    )
    # counts of what runs (CLAIM), a user's last turn (ENQUEUE), counts, "retry" and what failed
    # lately of the dashboard
    _open_idx = models.Index(
        "(provider_id, state, priority, user_id, fair_rank, completed_at)"
        " WHERE state IN ('draft', 'queued', 'running')"
        " OR state = 'failed'"
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
        self.env["llm.generation.engine"]._change(sql.TABLES, touches=())
        return super().init()

    @api.model
    def fields_get(self, allfields=None, attributes=None):
        """Describe the fields; what the engine alone reads is offered in no filter or grouping."""
        described = super().fields_get(allfields, attributes)
        of_groups = {name for name, field in self._fields.items() if field.groups and field.store}
        for name in described.keys() & (INTERNAL_FIELDS | of_groups):
            described[name].update({
                key: False
                for key in ("searchable", "groupable", "sortable")
                if key in described[name]
            })
        return described

    # === COMPUTE METHODS === #

    @api.depends("thread_id", "model_id")
    def _compute_name(self):
        for job in self:
            parts = (job.thread_id.sudo().name, job.model_id.sudo().name)  # sudo: one name for all
            job.name = " - ".join(part for part in parts if part)[: BOUNDS["char"]]

    @api.model
    def _search_conversation_text(self, operator, value):
        """Find the jobs whose question or answer has some words, where one may read both.

        :raise UserError: for fewer letters, or another question than that
        """
        if operator not in {"ilike", "like"} or not isinstance(value, str):
            raise UserError(
                self.env._("Questions and answers are searched for words that they contain.")
            )
        words = value.strip()
        if len(words) < SEARCHED_LETTERS:
            raise UserError(
                self.env._("Type at least %s letters of a question or answer.", SEARCHED_LETTERS)
            )
        # Never as superuser for whoever asks through a field of another model: a search tells what
        # it finds.
        mine = self.sudo(self.env.uid == SUPERUSER_ID)
        newest = mine._search(Domain.TRUE, order="id DESC", limit=SEARCHED_JOBS)
        threads = mine.browse().thread_id.with_context(active_test=False)._search(Domain.TRUE)
        found = self.env["llm.generation.engine"]._jobs_saying(words, newest, threads)
        return Domain("id", "in", found)

    @api.depends("name", "state")
    def _compute_display_name(self):
        states = dict(self._fields["state"]._description_selection(self.env))
        for job in self:
            job.display_name = f"{job.name} ({states[job.state]})" if job.state else job.name

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

    # Not on the message's fields: each word of an answer would look for its job.
    @api.depends("input_message_id", "generation_inputs")
    @api.depends_context("uid", "su")
    def _compute_input_text(self):
        readable = self.input_message_id._filtered_access("read")
        for job in self:
            inputs = job.generation_inputs if isinstance(job.generation_inputs, dict) else {}
            question = job.input_message_id & readable
            job.input_text = question._said() or inputs.get("prompt") or ""

    @api.depends("post", "thread_id", "output_message_id", "output")
    @api.depends_context("uid", "su")
    def _compute_output_text(self):
        readable = self.output_message_id._filtered_access("read")
        # Who may read the conversation may read what is answered besides it.
        kept = self.filtered(lambda job: not job.post and job.thread_id.has_access("read"))
        # sudo: the field is closed, so that it is in no cache; who may read it was asked.
        outputs = kept and dict(kept.sudo()._read_group([("id", "in", kept.ids)], ["id", "output"]))
        for job in self:
            if job.post:
                job.output_text = (job.output_message_id & readable)._said() or ""
            else:
                job.output_text = (outputs and outputs.get(job._origin)) or ""

    @api.depends("state", "retry_count", "max_retries", "error_type")
    @api.depends_context("uid", "su", "lang")
    def _compute_abilities(self):
        manages = self._is_manager()
        for job in self:
            failed = job.state == "failed"
            job.is_active = job.state in ACTIVE_STATES
            job.retry_refusal = job._why_no_retry(manages) if failed else False
            job.can_retry = failed and not job.retry_refusal
            job.can_cancel = job.state in TRANSITIONS["cancelled"]

    def _why_no_retry(self, manages):
        """Return what to do instead of another try that cannot help, nothing where it may.

        :param bool manages: whether it is a manager who asks: their retry grants all retries anew
        """
        if self.error_type == "content_refused":
            return self.env._(
                "The provider refuses what was asked, or it is too long. Ask it in other words, or"
                " ask for less: another try would be refused, too."
            )
        if self.error_type in HOPELESS and not (manages or self.env.su):
            return self.env._(
                "The provider does not accept this request. Ask it in other words, or have a"
                " manager look at the model and its provider."
            )
        if self.retry_count >= self.max_retries and (self.env.su or not manages):
            return self.env._("No retry is left. A manager can retry it.")
        return False

    @api.depends("state", "priority", "queued_at", "is_scheduled")
    def _compute_queue_position(self):
        positions = self.env["llm.generation.engine"]._queue_positions(self)
        for job in self:
            job.queue_position = positions.get(job.id, 0)

    @api.depends(
        "state",
        "priority",
        "queued_at",
        "is_scheduled",
        "scheduled_at",
        "error_message",
        "retry_at",
    )
    @api.depends_context("lang", "tz")
    def _compute_reason(self):
        waits = self._waiting_sentences()
        for job in self:
            job.reason = waits.get(job.id) or (job.state == "failed" and job._status_sentence())

    @api.model
    def _order_states(self, states, _domain):
        """Return the columns of a board: first what somebody may have to do something about."""
        first = ("running", "failed", "queued", "completed")
        return sorted(states, key=lambda state: (*first, state).index(state))

    # === CRUD METHODS === #

    @api.model_create_multi
    def create(self, vals_list):
        if self.env.su:
            return super().create(vals_list)
        self._check_created_by_user(vals_list)
        # Defaults in the context would slip past that check.
        owner_fields = self._owner_fields()
        context = {
            key: value
            for key, value in self.env.context.items()
            if not key.startswith("default_") or key.removeprefix("default_") in owner_fields
        }
        jobs = super(
            LlmGenerationJob,
            self.with_context(context),  # pylint: disable=context-overridden
        ).create(vals_list)
        jobs._check_owner_rights()
        jobs.filtered("identity_key")._own_keys()
        jobs._check_priority()
        return jobs.with_env(self.env)

    @api.model
    def _complete_values(self, vals_list):
        """Return the values of new jobs with those that follow from them."""
        of_thread, completed = {}, []
        threads = self._read_threads({vals.get("thread_id") for vals in vals_list})
        names = [name for name in THREAD_FIELDS if name in threads._fields]
        kinds = {row.pop("id"): tuple(row.values()) for row in threads.read(names, load=None)}
        for vals in vals_list:
            given = {name: vals[name] for name in GIVEN if vals.get(name)}
            # Threads that were made for a batch differ in their ids alone.
            key = tuple({**given, "thread_id": kinds.get(given.get("thread_id"))}.items())
            if key not in of_thread:
                of_thread[key] = self._values_from_thread(given, threads)
            vals = {**of_thread[key], **self._without_empty_key(vals)}
            state = vals.get("state", "draft")
            if state != "draft":
                vals.setdefault("queued_at", fields.Datetime.now())
            if state in FINAL_STATES:
                vals.setdefault("completed_at", fields.Datetime.now())
            completed.append(vals)
        return super()._complete_values(completed)

    @api.model
    def _read_threads(self, ids):
        """Return those of the threads that exist, read at once and not one by one."""
        # sudo: who may use a thread is checked with each job.
        threads = self.browse().thread_id.sudo().with_context(active_test=False)
        return threads.search_fetch(
            [("id", "in", [thread_id for thread_id in ids if thread_id])],
            [name for name in THREAD_FIELDS if name in threads._fields],
        )

    @api.model
    def _values_from_thread(self, given, threads):
        """Return what jobs of a thread, or of its like, have in common: computed once for them.

        :param dict given: the values of `GIVEN` that the caller chose
        :param threads: the threads that exist
        """
        thread = threads.browse(given.get("thread_id"))
        if thread not in threads:
            return {"user_id": self.env.uid}
        job = self.new({"user_id": self._owner_in(thread).id, **given})
        names = ("user_id", "provider_id", "model_id", "company_id", "name", "max_retries")
        return job._convert_to_write({name: job[name] for name in names})

    @api.model
    def _owner_in(self, thread):
        """Return whose jobs of a thread are.

        Where OdooBot works for others, as scheduled actions do, a job gets the rights of the
        thread's owner, which are the lesser ones.
        """
        user = self.env.user
        return (user._is_superuser() and thread.user_id) or user

    @api.model
    def default_get(self, fields):
        # Each user may have defaults of their own, by which nothing is born forged, either.
        own = self.env["ir.default"]._get_model_defaults(self._name)
        chosen = {key.removeprefix("default_") for key in self.env.context}
        # Odoo looks for one of each field of each record, and few have any.
        known = self._names_with_default()
        values = super().default_get([n for n in fields if n in known or n in own or n in chosen])
        if not self.env.su:
            for name in (own.keys() & values.keys()) - self._owner_fields():
                default = self._fields[name].default
                del values[name]
                if default:
                    values[name] = default(self)
        return values

    @api.model
    @ormcache()
    def _names_with_default(self):
        return frozenset(
            name for name, field in self._fields.items() if field.default or field.inherited
        )

    def write(self, vals):
        vals = self._hear_provider(vals)
        if not self.env.su:
            self._check_written_by_user(vals)
        result = super().write(self._without_empty_key(vals))
        if "scheduled_at" in vals and "is_scheduled" not in vals:
            self._schedule()
        if not self.env.su:
            if vals.keys() & {"thread_id", "provider_id", "model_id", "input_message_id"}:
                self._check_owner_rights()
            if "identity_key" in vals:
                self._own_keys()
            if "priority" in vals:
                self._check_priority()
        return result

    def _hear_provider(self, vals):
        """Take as a part of its answer what a provider's code writes on the job that it works for.

        The code reads what it wrote; the engine applies it, if the attempt still counts.

        :return: what else is to be written
        """
        recorder = received(self.env, "generation_recorder")
        names = ANSWER_FIELDS & vals.keys() if recorder and recorder.job == self else ()
        for name in names:
            recorder.written[name] = vals[name]
            field = self._fields[name]
            field._update_cache(self, field.convert_to_cache(vals[name], self))
        return {name: value for name, value in vals.items() if name not in names}

    def _schedule(self):
        """Have what waits follow a new date."""
        now = self.env["llm.generation.engine"]._now()
        # sudo: the engine's note; who may write the date was asked before.
        for job in self.sudo().filtered(lambda job: job.state == "queued"):
            job.is_scheduled = bool(job.scheduled_at and job.scheduled_at > now)
        self.env["llm.generation.engine"]._wake()

    @api.model
    def _without_empty_key(self, vals):
        return vals if vals.get("identity_key", True) else {**vals, "identity_key": False}

    @api.ondelete(at_uninstall=False)
    def _unlink_except_running(self):
        if any(job.state == "running" for job in self):
            raise UserError(
                self.env._("A running job cannot be deleted. Cancel it first, then delete it.")
            )
        if any(job.cancel_requested for job in self.sudo()):  # sudo: a note of the engine
            raise UserError(
                self.env._(
                    "The provider is just being told that the job was cancelled. Delete it in a"
                    " minute."
                )
            )

    # === WHO MAY WRITE WHAT === #
    # The engine writes as superuser. A remote call gets that only by code of others that works as
    # superuser with what it is given, as the mail gateway does: see `models/mail_message.py`.

    @api.model
    def _number_ranges(self):
        return {**super()._number_ranges(), "max_retries": (0, MAX_RETRIES)}

    def _check_priority(self):
        """Refuse a place ahead of others to whoever is no manager."""
        if any(job.priority < DEFAULT_PRIORITY for job in self) and not self._is_manager():
            raise AccessError(
                self.env._(
                    "Only a manager lets a job run before others. Choose a priority of %s or more.",
                    DEFAULT_PRIORITY,
                )
            )

    @api.model
    def _is_manager(self):
        return self.env.user.has_group("llm.group_llm_manager")

    @api.model
    def _owner_fields(self):
        """Return the fields that the owner of a job may write over RPC while it is a draft."""
        return OWNER_FIELDS

    @api.model
    def _check_created_by_user(self, vals_list):
        for vals in vals_list:
            foreign = vals.get("user_id", self.env.uid) != self.env.uid
            engine_owned = vals.keys() - self._owner_fields() - {"user_id", "state"}
            if foreign or engine_owned or vals.get("state", "draft") != "draft":
                raise AccessError(
                    self.env._("A job is created as your own draft; its state is the queue's work.")
                )

    def _check_written_by_user(self, vals):
        manager = self._is_manager()
        for job in self:
            is_own = job.user_id == self.env.user
            allowed = self._owner_fields() if job.state == "draft" and is_own else frozenset()
            if manager and job.state in {"draft", "queued", "failed"}:
                allowed |= MANAGER_FIELDS
            refused = vals.keys() - allowed
            if job.state == "draft" and refused & self._owner_fields():
                raise AccessError(
                    self.env._(
                        "Only %(owner)s writes what this job asks: it runs with their rights.",
                        # sudo: who sees the job sees whose it is.
                        owner=job.user_id.sudo().name,
                    )
                )
            if refused:
                raise AccessError(
                    self.env._(
                        "%(fields)s of a job in this state cannot be changed by hand.",
                        fields=", ".join(sorted(refused)),
                    )
                )

    def _check_owner_rights(self):
        """Refuse jobs on what their creator may not use.

        :raise AccessError: on a thread of somebody else, or another company's provider
        :raise UserError: on a model of another provider
        """
        # The answer is posted there, and is what the next one of its owner works with.
        self.thread_id.check_access("write")
        self.provider_id.check_access("read")
        self.model_id.check_access("read")
        # A thousand jobs have few models, and most have no message yet.
        for (model, provider), _jobs in self.grouped(lambda j: (j.model_id, j.provider_id)).items():
            if model.provider_id != provider:
                raise UserError(
                    self.env._("The model %s does not belong to the provider.", model.name)
                )
        for job in self.filtered("input_message_id"):
            # sudo: where a message is may be asked of one that cannot be read.
            message = job.input_message_id.sudo()
            if (message.model, message.res_id) != ("llm.thread", job.thread_id.id):
                raise AccessError(self.env._("The input message belongs to another thread."))

    # === THE KEY === #

    def _own_keys(self):
        """Let the keys of these drafts be the user's own: they neither take nor tell another's.

        `_identify()` gives keys of code, which are common to a company.
        """
        self.sudo().identity_scope = self.env.uid  # sudo: users do not choose the scope

    def _filtered_identity_free(self):
        """Leave out the jobs whose identity key a live job has taken meanwhile."""
        # sudo: a key is taken, whoever took it.
        taken = self.sudo().search([
            ("identity_key", "in", [key for key in self.mapped("identity_key") if key]),
            ("state", "in", ACTIVE_STATES),
        ])
        keys = {job._full_key() for job in taken}
        free = []
        for job in self:
            key = job._full_key()
            if not job.identity_key or key not in keys:
                keys.add(key)
                free.append(job.id)
        return self.browse(free)

    def _full_key(self):
        """Return what no two live jobs have in common, if they have a key: as in the index."""
        job = self.sudo()  # sudo: whose key it is decides what it is compared with
        return job.company_id, job.identity_scope, job.identity_key

    def _identify(self, key):
        """Give a draft a key of code: it is common to all users of the company."""
        # sudo: a key that its user gives by hand would be theirs alone.
        self.sudo().write({"identity_key": key, "identity_scope": 0})

    @api.model
    def _find_live(self, vals):
        """Return the waiting or running job with this key of code, if there is one."""
        if not vals.get("identity_key"):
            return self.browse()
        given = {name: vals[name] for name in GIVEN if vals.get(name)}
        threads = self._read_threads({given.get("thread_id")})
        # sudo: a key is taken, whoever took it; who asked gets it with their own rights.
        live = self.sudo().search(
            [
                ("identity_key", "=", vals["identity_key"]),
                ("identity_scope", "=", 0),
                ("company_id", "=", self._values_from_thread(given, threads)["company_id"]),
                ("state", "in", ACTIVE_STATES),
            ],
            limit=1,
        )
        return live.sudo(self.env.su)

    # === THE STATE === #
    # Which moves are legal is the table `TRANSITIONS` of `const.py`.

    def _set_state(self, target, *, call_ended=False, **values):
        """Move the jobs to `target`, skipping those that may not go there.

        The only place that writes a state, but for the statements ENQUEUE and CLAIM.

        :param str target: a key of `TRANSITIONS`
        :param bool call_ended: whether no call of a provider goes on for them: if one may, its slot
            stays taken until it ends
        :param values: further values to write with the state
        :return: the jobs that moved
        """
        if told := values.get("error_message"):  # maybe by another addon
            values["error_message"] = redact(told)[:ERROR_MESSAGE_LIMIT]
        moved = self.filtered(lambda job: job.state in TRANSITIONS[target])
        was_running = moved.filtered(lambda job: job.state == "running")
        now = self.env["llm.generation.engine"]._now()
        if target in FINAL_STATES:
            moved._note_durations(now)
        # What was given back keeps its old place.
        for dates, jobs in moved.grouped(lambda job: job._state_dates(target, now)).items():
            # sudo: the state is the engine's; who may move a job was asked before.
            own = jobs.sudo().with_context(generation_recorder=None)
            own.write({"state": target, **dict(dates), **values})
        if target in {"failed", "queued"}:
            was_running._mark_half_answers()
        if was_running and not call_ended:
            self.env["llm.generation.engine"]._hold_slots(was_running)
        if moved:
            self.env["llm.generation.engine"]._moved(moved, target, was_running)
        return moved

    def _attempts_at_provider(self):
        """Return the attempts that began what the provider has under the id of the job."""
        return self.attempt_ids.filtered(lambda one: one.external_job_id == self.external_job_id)

    def _mark_half_answers(self):
        """Mark what an attempt leaves of an answer that did not come to its end.

        Not each thread does, nor does who is killed. It is no answer, and no model is given it. A
        turn that called tools stays: the next attempt goes on from there.
        """
        for job in self.sudo():  # sudo: the answer's author is nobody
            half = job.output_message_id
            is_its_own = (half.model, half.res_id) == ("llm.thread", job.thread_id.id)
            is_half = is_its_own and half.llm_role == "assistant" and not half._tool_calls()
            if is_half and not half.is_error:  # else whoever marked it says why
                env = self.with_context(lang=job.user_id.lang).env
                note = env._("Cancelled.") if job.state == "cancelled" else env._("Broke off.")
                body = (half.body or "") + Markup("<p><em>%s</em></p>") % note
                half.write({"body": body, "is_error": True})

    def _note_durations(self, now):
        """Note how long the jobs ran, of which each has its own, without a write for each."""
        field = self._fields["duration"]
        with self.env.protecting([field], self):
            # sudo: as for the state.
            for job in self.sudo():
                started = job.started_at
                job.duration = max(0.0, (now - started).total_seconds()) if started else 0.0

    def _state_dates(self, target, now):
        """Return what follows from moving to `target`, as pairs of name and value.

        The timestamps, and how an answer ended that had begun and did not come to its end.
        """
        if target == "queued":
            queued_at = self.queued_at if self.state == "running" else now
            return (("queued_at", queued_at), ("started_at", False), ("completed_at", False))
        if target in FINAL_STATES:
            ended_by = {"cancelled": "cancelled", "failed": "broken"}.get(target)
            is_half = ended_by and self.state == "running" and self.output_message_id
            half = (("finish_reason", ended_by),) if is_half else ()
            return (("completed_at", now), ("retry_at", False), *half)
        return ()

    def _refuse_unless(self, target, sentence):
        """Raise `UserError` unless each of the jobs may move to `target`."""
        self.check_access("read")
        if any(job.state not in TRANSITIONS[target] for job in self):
            raise UserError(sentence)

    def _give_up(self):
        """Give up jobs whose thread is about to be deleted: nobody would read the answers.

        :raise UserError: for what a provider works on: it could not be told any more
        """
        if any(job.state == "running" for job in self):
            raise UserError(
                self.env._(
                    "An answer is being written in this conversation. Cancel it first, then delete"
                    " the conversation."
                )
            )
        if any(self.mapped("cancel_requested")):
            raise UserError(
                self.env._(
                    "A provider is just being told that an answer in this conversation was"
                    " cancelled. Delete the conversation in a minute."
                )
            )
        self.filtered("is_active")._set_state("cancelled", is_scheduled=False)

    # === WHAT IS ASKED === #

    def _check_inputs(self):
        """Validate the inputs against the model's `input_schema`, where it has one.

        :raise UserError: with the path and the reason of each thing that is wrong, or with what
            to write instead of a limit that is none, or of which the provider would not hear
        """
        # sudo: what a job may ask depends on its model, not on who asks.
        kinds = self.sudo().grouped(lambda job: (job.model_id, job.provider_id))
        for (model, provider), jobs in kinds.items():
            details = model.details
            check = validator(details.get("input_schema") if isinstance(details, dict) else None)
            runs_jobs = provider._implements("create_generation_job")
            for job in jobs:
                job._check_inputs_with(check, runs_jobs=runs_jobs)

    def _check_inputs_with(self, check, *, runs_jobs):
        inputs, is_media = self._structured_inputs() or {}, self._is_media()
        # What is reserved for the answer follows from its limit.
        self._answer_limit(inputs)
        if not self.post:
            self._check_without_messages()
        if self._is_asked_by_chat(runs_jobs):
            self._told_inputs()
        if len(json.dumps(inputs)) > INPUT_LIMIT:
            raise UserError(
                self.env._("The inputs are larger than %s bytes; make them shorter.", INPUT_LIMIT)
            )
        is_asked = inputs or (is_media and not self.input_message_id)
        if is_asked and (errors := check(inputs)):
            raise UserError(
                self.env._(
                    "The model %(model)s does not accept these inputs:\n%(errors)s",
                    model=self.model_id.name,
                    errors="\n".join(errors),
                )
            )

    def _is_asked_by_chat(self, runs_jobs):
        """Hook: return whether the provider's chat answers, and not a job that the provider runs.

        :param bool runs_jobs: whether the provider runs jobs
        """
        return not (runs_jobs or self._is_media())

    def _check_without_messages(self):
        """Refuse to answer without messages what needs them.

        :raise UserError: with what to do instead
        """
        inputs = self.generation_inputs
        prompt = inputs.get("prompt") if isinstance(inputs, dict) else None
        if self.input_message_id or not (isinstance(prompt, str) and prompt.strip()):
            raise UserError(
                self.env._(
                    "What is asked without posting a message stands in the inputs: give them a"
                    " prompt, and the job no message."
                )
            )
        # sudo: what the job needs depends on its thread and provider, not on who looks.
        job = self.sudo()
        if self._is_media() or job.thread_id.tool_ids:
            raise UserError(
                self.env._(
                    "Files and tools need messages. Have the messages posted, in a conversation"
                    " for each job."
                )
            )
        if not job.provider_id._answers_without_messages():
            raise UserError(
                self.env._(
                    "%s answers in conversations only. Have the messages posted.",
                    job.provider_id.name,
                )
            )

    @api.model
    def _answer_limit(self, inputs):
        """Return the limit in the inputs, `(name, tokens)`, None where there is none.

        :raise UserError: for one that is none
        """
        given = [name for name in tokens.LIMIT_NAMES if isinstance(inputs, dict) and name in inputs]
        if len(given) > 1:
            raise UserError(
                self.env._("%s mean the same: give only one of them.", ", ".join(given))
            )
        if given and not tokens.is_limit(inputs[given[0]]):
            raise UserError(
                self.env._(
                    "%(name)s has to be a whole number from 1 to %(most)s.",
                    name=given[0],
                    most=tokens.MOST_TOKENS,
                )
            )
        return (given[0], inputs[given[0]]) if given else None

    def _told_inputs(self):
        """Return the inputs of a chat as its provider is told them: `(arguments, limit)`.

        :return: a dict of those besides the prompt and the limit, and `_told_limit()`, or None
        :raise UserError: for those that it cannot be told
        """
        asked = self.generation_inputs
        inputs = asked if isinstance(asked, dict) else {}
        told = {name: inputs[name] for name in inputs.keys() - {"prompt", *tokens.LIMIT_NAMES}}
        provider = self.provider_id.sudo() if told else None  # sudo: the job names its provider
        known = provider._chat_inputs() if told else set()
        if unknown := sorted(map(str, told.keys() - known)):
            raise UserError(
                self.env._(
                    "A chat of %(provider)s cannot be given %(unknown)s. Leave it out; what can be"
                    " given is %(known)s.",
                    provider=provider.name,
                    unknown=", ".join(unknown)[:200],
                    known=", ".join(sorted(known | {"prompt"})),
                )
            )
        limit = self._answer_limit(inputs)
        return told, limit and self._told_limit(*limit)

    def _told_limit(self, name, limit):
        """Return the limit of a chat with the name by which the provider is told.

        :raise UserError: where it cannot be told
        """
        provider = self.provider_id.sudo()  # sudo: the job names its provider
        parameter = provider._limit_parameter(name)
        if not parameter:
            raise UserError(
                self.env._(
                    "%(provider)s cannot be told how long a chat's answer may be. Leave out"
                    " %(name)s.",
                    provider=provider.name,
                    name=name,
                )
            )
        return parameter, limit

    def _is_media(self):
        # sudo: what the job does depends on its model, not on who looks.
        return self.model_id.sudo().model_use in MEDIA_USES

    def _structured_inputs(self):
        """Return the inputs of the job, or those that a question to a model of media brings."""
        question = self.input_message_id.body_json if self._is_media() else None
        return self.generation_inputs or question

    # === GENERATING DIRECTLY === #

    def _asked_messages(self):
        """Return what a job without messages asks, as dicts of `role` and `content`.

        Before it what its thread has a model told before each conversation, and nothing that was
        said in it.
        """
        thread = self.thread_id
        told = thread.get_prepend_messages() if hasattr(thread, "get_prepend_messages") else ()
        return [*(told or ()), {"role": "user", "content": self.generation_inputs["prompt"]}]

    def _chat(self, messages):
        """Yield the chunks of what the provider answers to messages.

        :param list messages: dicts of `role` and `content`
        """
        # As what comes before a conversation that is empty: each service takes that as dicts.
        model, provider = self.model_id, self.provider_id
        answer = provider.chat([], model=model, stream=True, prepend_messages=messages)
        if isinstance(answer, dict):
            yield answer
        else:
            yield from answer

    def _direct_events(self):
        """Yield the events of generating directly in the thread, as its user would.

        Media models answer by `_generate_response()` where the stack has it, else by
        `generate()`; all others by `generate_messages()`.
        """
        self.ensure_one()
        thread, question = self.thread_id, self.input_message_id
        if not self._is_media():
            yield from thread.generate_messages(question)
        else:
            if recorder := received(self.env, "generation_recorder"):
                recorder.store = self._stored
            if hasattr(thread, "_generate_response"):
                # It may be another addon's, and not for this model.
                with contextlib.suppress(NotImplementedError):
                    yield from thread._generate_response(question)
                    return
            if recorder:
                recorder.store = None
            yield from self._media_events()

    def _put_question(self):
        """Write down as a message what only the inputs ask; return whether anything was written."""
        inputs = self.generation_inputs if isinstance(self.generation_inputs, dict) else {}
        if not self.post:
            return False
        if not self._is_media():
            return bool(inputs.get("prompt") and self._post_question(inputs["prompt"]))
        if not hasattr(self.thread_id, "_generate_response"):
            return False
        # That reads the inputs of the message, and nothing else.
        inputs = self._media_inputs()
        prompt = inputs.get("prompt") if isinstance(inputs, dict) else None
        if not self._post_question(prompt or "", inputs):
            if self.input_message_id.body_json == inputs:
                return False
            self.input_message_id.body_json = inputs
        return True

    def _post_question(self, text, inputs=None):
        """Post the question of a job that has none; return whether it was posted."""
        if self.input_message_id:
            return False
        message = self.thread_id.message_post(body=str(text), body_json=inputs, llm_role="user")
        self.sudo().input_message_id = message  # sudo: its owner changes nothing of a running job
        return True

    def _media_inputs(self):
        """Return what a model of media is given; the text of a question is its prompt."""
        inputs = self._structured_inputs() or {}
        if not isinstance(inputs, dict):
            return inputs
        text = self.input_message_id._said()
        return {"prompt": text, **inputs} if text else inputs

    @api.private
    def get_prepared_inputs(self):
        """Return the inputs as a provider is given them: prepared when they are executed.

        By `prepare_generation_inputs()` of the thread, where the stack has it.
        """
        self.ensure_one()
        inputs = self._media_inputs() if self._is_media() else self.generation_inputs or {}
        if not hasattr(self.thread_id, "prepare_generation_inputs"):
            return inputs
        attachments = self.input_message_id.attachment_ids
        return self.thread_id.prepare_generation_inputs(inputs, attachment_ids=attachments)

    def _media_events(self):
        output, files = self.model_id.generate(self._media_inputs())
        made = self.env["ir.attachment"].create([
            values for file in files or () if (values := self._file_values(file))
        ])
        message = self.thread_id.message_post(
            body=Markup("<br/>").join(map(self._shown, made))
            or self.env._("The generation has ended."),
            llm_role="assistant",
            body_json=output,
            author_id=False,
        )
        message.attachment_ids = made
        yield {"type": "message_create", "message": message.to_store_format()}

    def _stored(self, file):
        """Return a file that a provider made with an address, None for what nobody could open.

        The family makes an address of what comes as `data:`, which no browser follows.
        """
        if not str(file.get("url") or "").startswith("data:"):
            return file
        values = self._file_values(file)
        stored = values and self.env["ir.attachment"].create(values)
        return stored and {**file, "url": f"/web/content/{stored.id}"}

    def _file_values(self, file):
        """Return the values of an attachment for a file that a provider made.

        :param dict file: `url`, which may be the file itself as `data:`; `content_type` and
            `filename`, as far as they are known
        :return: None for what nobody could open
        """
        url = str(file.get("url") or "")
        known, _comma, data = url.partition(";base64,") if url.startswith("data:") else ("", "", "")
        if not (url.startswith(("http://", "https://")) or 0 < len(data) <= FILE_LIMIT):
            return None
        kind = str(file.get("content_type") or known.removeprefix("data:"))
        if data and not SHOWN_TYPES.match(kind):  # a browser would run it, from our address
            kind = ""
        name = self.env._("Answer") if data else url.rpartition("/")[2]
        return {
            "name": str(file.get("filename") or name)[: BOUNDS["char"]],
            "mimetype": kind or "application/octet-stream",
            "res_model": self.thread_id._name,
            "res_id": self.thread_id.id,
            **({"datas": data} if data else {"type": "url", "url": url}),
        }

    @api.model
    def _shown(self, file):
        """Return the markup of an attachment in an answer: a picture, or a link."""
        url = file.url or f"/web/content/{file.id}"
        if file.mimetype.startswith("image/"):
            return Markup('<img src="%s" alt="%s"/>') % (url, file.name)
        return Markup('<a href="%s">%s</a>') % (url, file.name)

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
        return self._tell_what_holds() or True

    def _tell_what_holds(self):
        """Return the action that says why the first of the jobs cannot start, False if they can."""
        waits = self.env["llm.generation.engine"]._waits(self)
        told = (job._hindrance(waits[job.id]) for job in self if job.id in waits)
        if not (why := next(filter(None, told), "")):
            return False
        params = {
            "type": "warning",
            "message": self.env._("It cannot start yet. %s", why),
            "next": {"type": "ir.actions.act_window_close"},  # has the view read the job again
        }
        return {"type": "ir.actions.client", "tag": "display_notification", "params": params}

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
        self._set_state("completed", call_ended=True, **values)
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
        """Queue failed jobs again, at the end of the queue; a manager grants all retries anew.

        :raise UserError: for a job that did not fail, or has a `retry_refusal`
        """
        self.check_access("read")
        if any(job.state != "failed" for job in self):
            raise UserError(self.env._("Only a failed job can be retried."))
        if refusal := next(filter(None, self.mapped("retry_refusal")), None):
            raise UserError(refusal)
        afresh = self._is_manager() and not self.env.su
        self.env["llm.generation.engine"]._enqueue(self, sources=("failed",), afresh=afresh)
        return True

    def action_stop_retrying(self):
        """Let failed jobs be failed for good: their automatic retry is given up.

        :raise UserError: for a job that no automatic retry is ahead of
        """
        self.check_access("read")
        if not all(RETRYING.holds(job) for job in self):
            raise UserError(self.env._("No automatic retry is ahead of this job."))
        self.env["llm.generation.engine"]._stop_retrying(self)
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

    def _is_unended(self):
        """Return whether a job, or a retry of it, is still ahead of its end."""
        return self.can_cancel or RETRYING.holds(self)

    def _cancel_unended(self):
        """Cancel jobs, and give up the automatic retries of those that failed."""
        retrying = self.filtered(RETRYING.holds)
        (self - retrying).action_cancel()
        retrying.action_stop_retrying()

    def action_open_thread(self):
        """Open the conversation that the job belongs to."""
        self.ensure_one()
        return self.thread_id._get_records_action()

    # === BULK ACTIONS === #
    # What is done to many jobs at once: what can be done is done, and the rest is explained.

    def action_bulk_retry(self):
        """Have the web client retry these jobs, some at a time, and say what came of it."""
        return self._bulk_action("retry")

    def action_bulk_cancel(self):
        """Have the web client cancel these jobs, some at a time, and say what came of it."""
        return self._bulk_action("cancel")

    def _bulk_action(self, what, value=None, left=0):
        """Return the action that calls `apply_bulk()` for some jobs after the other.

        :param int left: how many more are meant that the caller may not see; they are told of
        """
        self.check_access("read")
        params = {"what": what, "value": value, "ids": self._bulk_selection().ids}
        if left:
            params["left"] = left
        return {"type": "ir.actions.client", "tag": "llm_generation_bulk", "params": params}

    def _bulk_selection(self):
        """Return the jobs that are meant: all of the filter where its first ones were sent."""
        limit = int(
            # sudo: parameters are the administrators'.
            self.env["ir.config_parameter"].sudo().get_param("web.active_ids_limit")
            or SELECTION_LIMIT
        )
        context = self.env.context
        # From the list of queues comes the filter of queues.
        is_ours = context.get("active_model", self._name) == self._name
        if is_ours and context.get("active_domain") and len(self) >= limit:
            return self.search(context["active_domain"])
        return self

    def apply_bulk(self, what, value=None):
        """Do to these jobs what can be done to them, in one transaction.

        :param str what: `retry`, `cancel` what has not ended, `clear` what waits, `prioritize`, or
            `move` to another model and retry
        :param int value: the new priority, or the id of the model
        :return: `{"done": number, "refused": {reason: number}}`; the reasons are sentences' ends
        :raise UserError: for anything else to do
        """
        methods = {
            "retry": lambda jobs: jobs.action_retry(),
            "cancel": lambda jobs: jobs._cancel_unended(),
            "clear": lambda jobs: jobs.action_cancel(),
            "prioritize": lambda jobs: jobs.write({
                "priority": DEFAULT_PRIORITY if value is None else value
            }),
            "move": lambda jobs: jobs._move_to(jobs._movable_to(value)),
        }
        jobs = self.exists()
        jobs.check_access("read")
        if what not in methods:
            raise UserError(self.env._("This action is not known any more. Reload the page."))
        able, refused = self.browse(), {}
        for job, reason in jobs._bulk_reasons(what, value).items():
            if reason:
                refused[reason] = refused.get(reason, 0) + 1
            else:
                able |= job
        if able:
            methods[what](able)
        return {"done": len(able), "refused": refused}

    def _bulk_reasons(self, what, value):
        """Return by job why it cannot be done, an empty text where it can."""
        reasons = {job: job._bulk_reason(what) for job in self}
        if what in {"retry", "move"}:
            able = self.filtered(lambda job: not reasons[job])
            for job in able - able._filtered_identity_free():
                reasons[job] = self.env._("a job with the same key waits or runs")
            able = self.filtered(lambda job: not reasons[job])
            for job in able - able._may_retry():
                reasons[job] = self._retry_refusal()
        if what == "move" and self._is_manager():
            model = self._movable_to(value)
            for job in self.filtered(lambda job: not reasons[job]):
                reasons[job] = job._why_not_moved(model)
        return reasons

    def _bulk_reason(self, what):
        if what == "move" and not self._is_manager():
            return self.env._("only a manager may do that")
        if what in {"retry", "move"} and self.state != "failed":
            return self.env._("did not fail")
        if what in {"retry", "move"} and not self.can_retry:
            hopeless = self.error_type in HOPELESS
            refused = self.env._("would be refused again")
            return refused if hopeless else self.env._("no retry is left")
        if what == "cancel" and not self._is_unended():
            return self.env._("ended before")
        if what == "clear" and self.state != "queued":
            return self.env._("run already, or have ended")
        if what == "prioritize" and self.state not in {"draft", "queued", "failed"}:
            return self.env._("run already, or have ended")
        is_own_draft = self.state == "draft" and self.user_id == self.env.user
        if what == "prioritize" and not is_own_draft and not self._is_manager():
            return self.env._("only a manager may do that")
        return ""

    # === MOVING === #
    # A manager has what failed answered by another model. A chat is answered by the model of its
    # conversation, which goes along: written as its owner, within what its owner may use.

    @api.model
    def _movable_to(self, model_id):
        """Return the model that jobs are moved to.

        :raise AccessError: for one that the caller may not use
        :raise UserError: for none
        """
        model = self.env["llm.model"].browse(model_id or ()).exists()
        if not model:
            raise UserError(self.env._("Choose the model that shall answer."))
        model.check_access("read")
        model.provider_id.check_access("read")
        return model

    def _why_not_moved(self, model):
        """Return why another model cannot have this failed job, an empty text where it can."""
        env = self.env
        used = model.with_user(self.user_id).with_context(**self._owner_context())
        if not (used.has_access("read") and used.provider_id.has_access("read")):
            return env._("their users may not use that model")
        is_kin = (model.model_use in MEDIA_USES) == self._is_media()
        if not is_kin or model.model_use == "embedding":
            return env._("that model does something else")
        along = self.browse()
        if self._takes_thread_along(model):
            if why := self._why_thread_stays(model):
                return why
            along = self._going_along()
        if any(job._is_ending_at_provider() for job in self | along):
            return env._("their provider is just being told to stop")
        return "" if self._is_accepted_by(model) else env._("that model does not accept the inputs")

    def _why_thread_stays(self, model):
        """Return why its conversation cannot have another model, an empty text where it can."""
        env, thread = self.env, self.thread_id.sudo()  # sudo: the job names its conversation
        if thread.user_id != self.user_id:
            return env._("the conversation is somebody else's by now")
        if not self._own_thread().has_access("write"):
            return env._("their users may no longer change the conversation")
        if thread.model_id != self.model_id:
            return env._("the conversation has another model by now")
        # What its model says has the tools run, with the rights of the owner.
        may_choose = env.user == self.user_id or env.is_system()
        if thread.tool_ids and thread.provider_id != model.provider_id and not may_choose:
            return env._(
                "the conversation has tools: only its user or an administrator may change its"
                " provider"
            )
        if self._has_open_neighbors(model):
            return env._("another answer of the conversation waits or runs")
        return ""

    def _takes_thread_along(self, model):
        # sudo: the job names its conversation; one that posts nothing is asked of its own model.
        return self.post and self.thread_id.sudo().model_id != model

    def _owner_context(self):
        return self.env["llm.generation.engine"]._owner_context(self.sudo())  # sudo: of its owner

    def _own_thread(self):
        """Return the conversation as its owner has it, in the company of the job."""
        return self.thread_id.with_user(self.user_id).with_context(**self._owner_context())

    def _going_along(self):
        """Return the drafts and failed jobs that the model of the conversation would answer, too.

        A later retry would be answered by the new model, within the limits of another queue.
        """
        # sudo: which jobs a conversation has does not depend on who asks.
        return self.sudo().search(
            Domain("thread_id", "=", self.thread_id.id)
            & Domain("model_id", "=", self.model_id.id)
            & Domain("user_id", "=", self.user_id.id)
            & Domain("post", "=", True)
            & Domain("state", "in", ("draft", "failed"))
        )

    def _has_open_neighbors(self, model):
        """Return whether others of the thread are about to be answered, and not by this model."""
        is_open = Domain("state", "in", ACTIVE_STATES) | Domain("retry_at", "!=", False)
        # sudo: which jobs a conversation has does not depend on who asks.
        return bool(
            self.sudo().search_count(
                Domain("thread_id", "=", self.thread_id.id)
                & Domain("id", "!=", self.id)
                & Domain("model_id", "!=", model.id)
                & Domain("post", "=", True)
                & is_open,
                limit=1,
            )
        )

    def _is_ending_at_provider(self):
        """Return whether its provider may still work on it: only that one can be told to stop."""
        job = self.sudo()  # sudo: notes of the engine
        # Of each attempt: a call that goes on may yet bring an id (LATE_EXTERNAL), which whoever is
        # the provider of the job then would be told to cancel.
        tokens = job.attempt_ids.ids
        held = self.env["llm.generation.held.slot"].sudo()  # sudo: as above
        return job.cancel_requested or bool(
            tokens and held.search_count([("token", "in", tokens)], limit=1)
        )

    def _is_accepted_by(self, model):
        names = ("thread_id", "user_id", "generation_inputs", "input_message_id", "post")
        job = self.sudo()  # sudo: a copy that nobody keeps
        values = job._convert_to_write({name: job[name] for name in names})
        like = self.new({**values, "provider_id": model.provider_id.id, "model_id": model.id})
        try:
            like.sudo()._check_inputs()  # sudo: as above
        except UserError:
            return False
        return True

    def _follow_thread(self):
        """Give chats the provider and the model of their conversations, which answer them.

        Else a question counts against the limits of whoever is not asked, and waits for the pause
        of a provider that its user has left. What waits joins the end of the other line. A job that
        its provider runs asks for its own model, and keeps it.
        """
        jobs = self.sudo()  # sudo: of what a job asks only this changes, and its user chose it
        moved = self.browse()
        for job in jobs:
            thread = job.thread_id
            is_elsewhere = (thread.provider_id, thread.model_id) != (job.provider_id, job.model_id)
            if is_elsewhere and job._is_answered_by_thread():
                place = {"provider_id": thread.provider_id.id, "model_id": thread.model_id.id}
                moved |= job
                with self.env.protecting([self._fields["company_id"]], job):
                    job.write(place)
        if waiting := moved.filtered(lambda job: job.state == "queued"):
            self.env["llm.generation.engine"]._rejoin(waiting)

    def _is_answered_by_thread(self):
        """Return whether the conversation asks its own model, whatever the job says."""
        model = self.thread_id.model_id
        is_chat = self.post and model and not (self._is_media() or model.model_use in MEDIA_USES)
        return is_chat and not self.provider_id._implements("create_generation_job")

    def _move_to(self, model):
        """Give failed jobs another model, and their conversations with them, and retry them."""
        place = {"provider_id": model.provider_id.id, "model_id": model.id}
        jobs = self.sudo()  # sudo: of what a job asks only this changes; who may was asked before
        for job in self:
            if job._takes_thread_along(model):
                jobs |= job._going_along()
                job._own_thread().write(place)
        # The provider of before has ended what it had of them, or was told to: nobody asks the new
        # one to cancel that.
        last = jobs.attempt_ids.browse(job.attempt_ids[:1].id for job in jobs if job.attempt_ids)
        last.filtered(lambda one: one.error_type not in ENDED_AT_PROVIDER).write({
            "external_job_id": False
        })
        # They stay with the company that they were asked for, whosever provider it is.
        with self.env.protecting([self._fields["company_id"]], jobs):
            jobs.write({**place, "external_job_id": False, "provider_data": False})
        self.action_retry()

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
        snapshot hides it. The provider is asked once in a few seconds, by one caller at a time.

        :return: the provider's answer as a dict; the known `state` and `progress` where it was
            asked a moment ago, False where there is nothing to ask
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

    # === WHAT IT SAYS OF ITSELF === #

    def _webhook_url(self):
        """Return where the provider may say that something happened to the job.

        False where nobody out there can reach us, or the way there is not encrypted.
        """
        self.ensure_one()
        base = self.get_base_url().rstrip("/")
        if not base.startswith("https://"):
            return False
        token = read_secret(self, "webhook_token")
        return f"{base}{WEBHOOK_PATH}/{self.id}/{token}"

    def _seconds_to_retry(self):
        """Return the seconds until the automatic retry; infinite where there will be none."""
        self.ensure_one()
        if not self.retry_at:
            return float("inf")
        now = self.env["llm.generation.engine"]._now()
        return max(0.0, (self.retry_at - now).total_seconds())

    def _status_sentence(self):
        """Return one sentence about where the job stands, for its owner."""
        self.ensure_one()
        if self.state == "queued":
            reason = self._waiting_sentences().get(self.id) or self.env._("Waiting.")
            return f"{reason} {self._forecast_sentence()}".rstrip()
        if RETRYING.holds(self):
            return self.env._(
                "Will be retried automatically at about %(time)s: %(error)s",
                time=self._clock_time(self.retry_at, precise=True),
                error=self._told_error(),
            )
        if self.state == "failed":
            return self._told_error() or self.env._("The generation failed.")
        return {
            "draft": self.env._("Not queued yet."),
            "running": self.env._("The provider is working on it."),
            "completed": self._completed_sentence(),
            "cancelled": self.env._("Cancelled."),
        }[self.state]

    def _told_error(self):
        """Return what went wrong for who chats: its kind in place of what only managers read.

        That is a status of HTTP, and what a library says of a connection.
        """
        kinds = dict(self._fields["error_type"]._description_selection(self.env))
        kind, words = kinds.get(self.error_type, ""), self.error_message or ""
        if kind and (self.error_type == "unknown_outcome" or words.startswith("[Errno ")):
            return f"{kind}."
        return HTTP_STATUS.sub(lambda _status: f"{kind}: " if kind else "", words)

    def _waiting_sentences(self):
        """Return why each of the jobs that wait has not started, by id: for who asked.

        What keeps all jobs of its queue is told first, then what keeps this one.
        """
        waits = self.env["llm.generation.engine"]._waits(self)
        return {
            job.id: job._hindrance(wait)
            or job.env._("Waiting, position %s in the queue.", job.queue_position)
            for job in self
            if (wait := waits.get(job.id))
        }

    def _hindrance(self, wait):
        return self._queue_holds(wait) or self._is_held(wait)

    def _clock_time(self, moment, **how):
        # sudo: who reads of a job is its owner, where nobody else looks.
        zone = self.sudo().user_id.tz
        return self.env["llm.generation.engine"]._clock_time(moment, zone, **how)

    def _queue_holds(self, wait):
        """Return why nothing of the queue starts, nothing if it may.

        :param dict wait: a row of `WAITS`
        """
        env = self.env
        if not wait["active"]:
            return env._("The provider is archived: nothing of it starts.")
        if not wait["enabled"]:
            return env._("Paused by an administrator.")
        if wait["refused_by"]:
            refusals = {
                "authentication": env._("The provider rejects the API key; managers know."),
                "quota": env._("The account at the provider has no credit left; managers know."),
            }
            return refusals[wait["refused_by"]]
        if wait["paused_until"]:
            return env._(
                "The provider asked for a pause; goes on at about %s.",
                self._clock_time(wait["paused_until"]),
            )
        if not (wait["is_scheduled"] or wait["has_runner"]) and wait["waited"] > NO_RUNNER:
            return env._("No server runs jobs; an administrator has to start one.")
        return ""

    def _is_held(self, wait):
        """Return why this job does not start in a queue that may start others; see above."""
        env, model = self.env, self.model_id.sudo().name  # sudo: the job names its model
        if wait["is_scheduled"]:
            return self._scheduled_sentence()
        if wait["earlier"] == 1:
            return env._("Another job of this thread is before it.")
        if wait["earlier"]:
            return env._("%s jobs of this thread are before it.", wait["earlier"])
        if wait["model_refused_by"]:
            return env._("The provider refuses the model %s; managers know.", model)
        if wait["model_paused_until"]:
            return env._(
                "The provider asked for a pause of the model %(model)s; goes on at about %(time)s.",
                model=model,
                time=self._clock_time(wait["model_paused_until"]),
            )
        if not wait["has_slot"]:
            full = env._("all slots of the provider are busy (%s)", wait["slots"])
        elif wait["model_slots"] and wait["model_running"] >= wait["model_slots"]:
            full = env._("all slots of the model are busy (%s)", wait["model_slots"])
        elif self._is_used_up(wait):
            full = env._("the allowance of this minute is used up")
        else:
            return ""
        return env._(
            "Waiting, position %(position)s in the queue: %(full)s.",
            position=self.queue_position,
            full=full,
        )

    @api.model
    def _is_used_up(self, wait):
        return any(
            wait[limit]
            and wait[level] is not None
            and ratelimit.wait_for(
                ratelimit.refill(wait[level], wait[limit], wait["elapsed"]), wait[limit]
            )
            for limit, level in (("requests", "request_level"), ("tokens", "token_level"))
        )

    def _scheduled_sentence(self):
        """Return why a job is not in line yet."""
        env = self.env
        if self.error_type == "busy":
            return env._("Another answer is being written in this thread.")
        if not self.scheduled_at:
            return env._("Waiting until it may start.")
        time = self._clock_time(self.scheduled_at)
        if self.error_type:
            kinds = dict(self._fields["error_type"]._description_selection(env))
            return env._(
                "The last try did not succeed (%(error)s); the next is at about %(time)s.",
                error=kinds[self.error_type],
                time=time,
            )
        return env._("Waiting until %s.", time)

    def _forecast_sentence(self):
        """Return when the job is about to start, empty where that would be a guess."""
        if not self.queue_position:
            return ""
        # sudo: how fast a queue works may be told to who waits in it.
        queue = self.env["llm.generation.queue"]._get_or_create_queue(self.provider_id).sudo()
        engine = self.env["llm.generation.engine"]
        pace = engine._pace(queue)
        if pace["running"] < queue.max_concurrent_jobs:
            return ""  # it starts at once, or waits for something else than a slot
        seconds = engine._forecast(queue, self.queue_position, pace)
        if not seconds or seconds > FORESEEABLE:
            return ""
        if seconds < 90:
            return self.env._("Starts in about %s seconds.", max(10, 10 * round(seconds / 10)))
        if seconds < 90 * 60:
            return self.env._("Starts in about %s minutes.", max(2, round(seconds / 60)))
        return self.env._("Starts in about %s hours.", max(2, round(seconds / 3600)))

    def _completed_sentence(self):
        return {
            "length": self.env._("The answer is cut off: it reached its limit."),
            "content_filter": self.env._("The answer is cut off: a filter stopped it."),
            "refusal": self.env._("The model refused to answer."),
            "tool_calls": self.env._("The model wanted to call more tools than it may."),
            "cancelled": self.env._("The answer was cancelled before its end."),
            "broken": self.env._("The answer broke off before its end."),
        }.get(self.finish_reason) or self.env._("Answered.")

    def _bus_payload(self):
        """Return what the web clients are told when the job moved."""
        return {
            "id": self.id,
            "thread_id": self.thread_id.id,
            "state": self.state,
            "progress": self.progress,
            "output_message_id": self.output_message_id.id,
            "name": self.name,
            "will_retry": RETRYING.holds(self),
            "post": self.post,
        }
