from odoo import api, models
from odoo.exceptions import AccessError, UserError

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


class LlmGenerationGuard(models.AbstractModel):
    """Who may write what of a job. The engine writes as superuser; over RPC nobody is that."""

    _name = "llm.generation.guard"
    _description = "LLM Generation Guard"

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
            LlmGenerationGuard,
            self.with_context(context),  # pylint: disable=context-overridden
        ).create(vals_list)
        jobs._check_owner_rights()
        return jobs.with_env(self.env)

    def write(self, vals):
        if not self.env.su:
            self._check_written_by_user(vals)
        result = super().write(vals)
        checked = {"thread_id", "provider_id", "model_id", "input_message_id"}
        if not self.env.su and checked & vals.keys():
            self._check_owner_rights()
        return result

    @api.model
    def _owner_fields(self):
        """Return the fields that the owner of a job may write over RPC while it is a draft."""
        return OWNER_FIELDS

    @api.model
    def _check_created_by_user(self, vals_list):
        for vals in vals_list:
            foreign = vals.get("user_id", self.env.uid) != self.env.uid
            engine_owned = vals.keys() - self._owner_fields() - {"user_id", "state", "name"}
            if foreign or engine_owned or vals.get("state", "draft") != "draft":
                raise AccessError(
                    self.env._("A job is created as your own draft; its state is the queue's work.")
                )

    def _check_written_by_user(self, vals):
        manager = self.env.user.has_group("llm.group_llm_manager")
        for job in self:
            allowed = self._owner_fields() if job.state == "draft" else frozenset()
            if manager and job.state in {"draft", "queued", "failed"}:
                allowed |= MANAGER_FIELDS
            if refused := vals.keys() - allowed:
                raise AccessError(
                    self.env._(
                        "%(fields)s of a job in this state cannot be changed by hand.",
                        fields=", ".join(sorted(refused)),
                    )
                )

    def _check_owner_rights(self):
        """Refuse jobs on what their creator may not use.

        :raise AccessError: on a thread that cannot be read, or another company's provider
        :raise UserError: on a model of another provider
        """
        self.thread_id.check_access("read")
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
