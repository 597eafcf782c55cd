from odoo import fields, models

from ..const import MODEL_USES


class LlmFetchModelsLine(models.TransientModel):
    _name = "llm.fetch.models.line"
    _description = "Fetched LLM Model"
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
