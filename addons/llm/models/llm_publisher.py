from odoo import fields, models


class LlmPublisher(models.Model):
    """Who trained and published a model, which is often not who serves it."""

    _name = "llm.publisher"
    _description = "LLM Publisher"
    _order = "name, id"

    name = fields.Char(required=True)
    active = fields.Boolean(default=True)
    logo = fields.Image(max_width=256, max_height=256)
    model_ids = fields.One2many("llm.model", "publisher_id", readonly=True)
