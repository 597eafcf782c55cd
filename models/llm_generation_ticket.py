import secrets

from odoo import api, fields, models

from ..const import ACTIVE_STATES, FINAL_STATES, RETRYING, WEBHOOK_PATH
from .secret import read_secret

#: What the rest of a new job's values follows from.
GIVEN = ("thread_id", "provider_id", "model_id", "user_id")


class LlmGenerationTicket(models.AbstractModel):
    """A job's place in the queue: what the engine notes on it, and what it says of itself."""

    _name = "llm.generation.ticket"
    _description = "LLM Generation Ticket"

    # Read and written by the engine alone; their indexes are in `llm_generation_job.py`.
    attempt_token = fields.Integer(
        readonly=True,
        copy=False,
        aggregator=None,
        groups="base.group_system",
        help="The attempt that may end this job; any other finds itself overtaken.",
    )
    fair_rank = fields.Integer(
        readonly=True,
        copy=False,
        aggregator=None,
        groups="base.group_system",
        help="Whose turn it is among users of equal priority: each user has one job a turn.",
    )
    attempt_count = fields.Integer(
        readonly=True, copy=False, aggregator=None, groups="base.group_system"
    )
    is_scheduled = fields.Boolean(readonly=True, copy=False, groups="base.group_system")
    estimated_tokens = fields.Integer(readonly=True, copy=False, groups="base.group_system")
    next_poll_at = fields.Datetime(readonly=True, copy=False, groups="base.group_system")
    asked_at = fields.Datetime(readonly=True, copy=False, groups="base.group_system")
    poll_count = fields.Integer(
        readonly=True, copy=False, aggregator=None, groups="base.group_system"
    )
    result_expires_at = fields.Datetime(readonly=True, copy=False, groups="base.group_system")
    cancel_requested = fields.Boolean(
        readonly=True,
        copy=False,
        groups="base.group_system",
        help="The provider still has to be told that the job was cancelled.",
    )
    webhook_token = fields.Char(
        default=lambda self: secrets.token_urlsafe(),
        readonly=True,
        copy=False,
        exportable=False,
        prefetch=False,
        groups=fields.NO_ACCESS,
    )
    hinted_at = fields.Datetime(
        readonly=True,
        copy=False,
        groups="base.group_system",
        help="When a webhook had the provider asked, or will have it asked.",
    )
    poll_requested = fields.Boolean(
        readonly=True,
        copy=False,
        groups="base.group_system",
        help="The provider said that something happened, and was not asked since.",
    )

    @api.model_create_multi
    def create(self, vals_list):
        of_thread, filled = {}, []
        threads = self._read_threads({vals.get("thread_id") for vals in vals_list})
        for vals in vals_list:
            given = {name: vals[name] for name in GIVEN if vals.get(name)}
            key = tuple(given.items())
            if key not in of_thread:
                of_thread[key] = self._values_from_thread(given, threads)
            vals = {**of_thread[key], **vals}
            state = vals.get("state", "draft")
            if state != "draft":
                vals.setdefault("queued_at", fields.Datetime.now())
            if state in FINAL_STATES:
                vals.setdefault("completed_at", fields.Datetime.now())
            filled.append(vals)
        return super().create(filled)

    @api.model
    def _read_threads(self, ids):
        """Return those of the threads that exist, read at once and not one by one."""
        # sudo: who may use a thread is checked with each job.
        threads = self.env["llm.thread"].sudo().with_context(active_test=False)
        return threads.search_fetch(
            [("id", "in", [thread_id for thread_id in ids if thread_id])],
            [
                name
                for name in ("name", "user_id", "provider_id", "model_id", "company_id")
                if name in threads._fields
            ],
        )

    @api.model
    def _values_from_thread(self, given, threads):
        """Return what jobs of a thread have in common: computed once for thousands of them.

        Where OdooBot works for others, as scheduled actions do, a job gets the rights of the
        thread's owner, which are the lesser ones.

        :param dict given: the values of `GIVEN` that the caller chose
        :param threads: the threads that exist
        """
        thread = threads.browse(given.get("thread_id"))
        if thread not in threads:
            return {"user_id": self.env.uid}
        owner = self.env.user
        if owner._is_superuser():
            owner = thread.user_id or owner
        job = self.new({"user_id": owner.id, **given})
        names = ("user_id", "provider_id", "model_id", "company_id", "name", "max_retries")
        return job._convert_to_write({name: job[name] for name in names})

    def write(self, vals):
        result = super().write(vals)
        if "scheduled_at" in vals and "is_scheduled" not in vals:
            now = fields.Datetime.now()
            # sudo: the engine's note; who may write the date was asked before.
            for job in self.sudo().filtered(lambda job: job.state == "queued"):
                job.is_scheduled = bool(job.scheduled_at and job.scheduled_at > now)
            self.env["llm.generation.engine"]._wake()
        return result

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
        return max(0.0, (self.retry_at - fields.Datetime.now()).total_seconds())

    def _status_sentence(self):
        """Return one sentence about where the job stands, for its owner."""
        self.ensure_one()
        if self.state == "queued":
            return self.env._("Waiting, position %s in the queue.", self.queue_position)
        if RETRYING.holds(self):
            return self.env._(
                "Failed, and will be tried again by itself: %s", self.error_message or ""
            )
        if self.state == "failed":
            return self.error_message or self.env._("The generation failed.")
        return {
            "draft": self.env._("Not queued yet."),
            "running": self.env._("The provider is working on it."),
            "completed": self.env._("Answered."),
            "cancelled": self.env._("Cancelled."),
        }[self.state]

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
        }

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
