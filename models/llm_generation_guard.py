from odoo import api, models
from odoo.exceptions import AccessError, UserError

from ..const import DEFAULT_PRIORITY, LAST_ID, MAX_RETRIES

#: What the owner of a job may write over RPC, and only while it is a draft.
OWNER_FIELDS = frozenset({
    "generation_inputs",
    "identity_key",
    "input_message_id",
    "max_retries",
    "model_id",
    "priority",
    "provider_id",
    "scheduled_at",
    "thread_id",
})
#: What a manager may write over RPC while a job waits.
MANAGER_FIELDS = frozenset({"max_retries", "priority", "scheduled_at"})
#: The numbers that a person chooses: the least and the largest.
BOUNDS = {"max_retries": (0, MAX_RETRIES), "priority": (-LAST_ID, LAST_ID)}


class LlmGenerationGuard(models.AbstractModel):
    """Who may write what of a job. The engine writes as superuser; over RPC nobody is that."""

    _name = "llm.generation.guard"
    _description = "LLM Generation Guard"

    @api.model_create_multi
    def create(self, vals_list):
        for vals in vals_list:
            self._check_bounds(vals)
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
            LlmGenerationGuard,
            self.with_context(context),  # pylint: disable=context-overridden
        ).create(vals_list)
        jobs._check_owner_rights()
        jobs.filtered("identity_key")._own_keys()
        jobs._check_priority()
        return jobs.with_env(self.env)

    @api.model
    def default_get(self, fields):
        values = super().default_get(fields)
        if not self.env.su:
            # Each user may have defaults of their own, by which nothing is born forged, either.
            own = self.env["ir.default"]._get_model_defaults(self._name)
            for name in (own.keys() & values.keys()) - self._owner_fields():
                default = self._fields[name].default
                del values[name]
                if default:
                    values[name] = default(self)
        return values

    def write(self, vals):
        self._check_bounds(vals)
        if not self.env.su:
            self._check_written_by_user(vals)
        result = super().write(vals)
        checked = {"thread_id", "provider_id", "model_id", "input_message_id"}
        if not self.env.su and checked & vals.keys():
            self._check_owner_rights()
        if not self.env.su and "identity_key" in vals:
            self._own_keys()
        if not self.env.su and "priority" in vals:
            self._check_priority()
        return result

    @api.model
    def _check_bounds(self, vals):
        """Refuse numbers that the database cannot hold, or that nobody means.

        :raise UserError: with the least and the largest number
        """
        for name in BOUNDS.keys() & vals.keys():
            least, most = BOUNDS[name]
            try:
                number = int(vals[name] or 0)
            except (TypeError, ValueError, OverflowError):
                number = None
            if number is None or not least <= number <= most:
                raise UserError(
                    self.env._(
                        "%(field)s is a whole number from %(least)s to %(most)s.",
                        field=self._fields[name]._description_string(self.env),
                        least=least,
                        most=most,
                    )
                )

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

    def _own_keys(self):
        """Let the keys of these drafts be the user's own: they neither take nor tell another's.

        `_identify()` gives keys of code, which are common to a company.
        """
        self.sudo().identity_scope = self.env.uid  # sudo: users do not choose the scope

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
