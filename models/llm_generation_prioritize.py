from odoo import api, fields, models

from ..const import DEFAULT_PRIORITY


# What a manager is asked before many jobs are changed; it needs no folder of its own.
class LlmGenerationPrioritize(models.TransientModel):  # pylint: disable=no-wizard-in-models
    """Asks for the priority that the selected jobs shall have."""

    _name = "llm.generation.prioritize"
    _description = "Change the Priority of Generation Jobs"
    _inherit = ["llm.generation.bounds"]

    priority = fields.Integer(default=DEFAULT_PRIORITY, required=True, help="Lower runs first.")

    def action_apply(self):
        """Have the web client give the selected jobs this priority."""
        self.ensure_one()
        jobs = self.env["llm.generation.job"].browse(self.env.context.get("active_ids") or ())
        return jobs._bulk_action("prioritize", self.priority)


class LlmGenerationMove(models.TransientModel):  # pylint: disable=no-wizard-in-models
    """Asks for the model that shall answer the selected jobs, which failed."""

    _name = "llm.generation.move"
    _description = "Move Generation Jobs to Another Model"
    _inherit = ["llm.generation.bounds"]

    provider_id = fields.Many2one("llm.provider", required=True, ondelete="cascade")
    model_id = fields.Many2one(
        "llm.model",
        compute="_compute_model_id",
        store=True,
        readonly=False,
        required=True,
        ondelete="cascade",
        domain="[('provider_id', '=', provider_id), ('model_use', '!=', 'embedding')]",
    )
    job_count = fields.Integer("Failed Jobs", compute="_compute_job_count")

    @api.depends("provider_id")
    def _compute_model_id(self):
        for move in self:
            if move.model_id.provider_id != move.provider_id:
                move.model_id = move.provider_id._talking_model()

    @api.depends_context("active_ids")
    def _compute_job_count(self):
        self.job_count = len(self.env.context.get("active_ids") or ())

    def action_apply(self):
        """Have the web client move the selected jobs to this model, and retry them."""
        self.ensure_one()
        jobs = self.env["llm.generation.job"].browse(self.env.context.get("active_ids") or ())
        return jobs._bulk_action("move", self.model_id.id)
