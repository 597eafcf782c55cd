from odoo import fields, models


class LlmGenerationModelLimit(models.Model):
    """A limit of one model, within that of its provider's queue."""

    _name = "llm.generation.model.limit"
    _description = "LLM Generation Model Limit"
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
