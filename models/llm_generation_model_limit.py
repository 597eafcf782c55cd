from odoo import api, fields, models


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
    max_concurrent_jobs = fields.Integer(default=1, required=True)

    _model_unique = models.UniqueIndex(
        "(queue_id, model_id)", "This model already has a limit in this queue."
    )
    _max_concurrent_positive = models.Constraint(
        "CHECK(max_concurrent_jobs >= 1)", "A model runs at least one job at a time."
    )

    # === CRUD METHODS === #

    @api.model_create_multi
    def create(self, vals_list):
        limits = super().create(vals_list)
        for limit in limits:
            limit._log(limit.env._("%s jobs at once", limit.max_concurrent_jobs))
        return limits

    def write(self, vals):
        before = {limit.id: (limit.model_id, limit.max_concurrent_jobs) for limit in self}
        queues = self.queue_id
        result = super().write(vals)
        for limit in self:
            model, number = before[limit.id]
            if (model, number) != (limit.model_id, limit.max_concurrent_jobs):
                limit._log(
                    limit.env._(
                        "%(after)s jobs at once (before: %(model)s, %(number)s)",
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
