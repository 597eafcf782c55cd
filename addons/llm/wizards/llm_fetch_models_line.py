from odoo import api, fields, models

from ..const import MODEL_USES


class LlmFetchModelsLine(models.TransientModel):
    _name = "llm.fetch.models.line"
    _description = "Fetched LLM Model"
    _inherit = ["llm.onchange.guard"]
    _order = "id"

    wizard_id = fields.Many2one("llm.fetch.models", required=True, index=True, ondelete="cascade")
    selected = fields.Boolean()
    name = fields.Char(required=True, readonly=True)
    model_use = fields.Selection(MODEL_USES, required=True)
    details = fields.Json(readonly=True)
    model_id = fields.Many2one("llm.model", readonly=True, ondelete="cascade")
    status = fields.Selection(
        [("new", "New"), ("changed", "Changed"), ("known", "Up to Date")], readonly=True
    )

    # Of whatever a record names, who may read it is shown the name.

    @api.model_create_multi
    def create(self, vals_list):
        lines = super().create(vals_list)
        lines.model_id.check_access("read")
        return lines

    def write(self, vals):
        result = super().write(vals)
        self.model_id.check_access("read")
        return result
