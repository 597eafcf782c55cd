from odoo import fields, models

from ..const import DEFAULT_PRIORITY


# The only wizard: it needs no folder of its own.
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
