from odoo import fields, models


class LlmGenerationRunner(models.Model):
    """A process that runs jobs, while it lives. Written by the engine alone."""

    _name = "llm.generation.runner"
    _description = "LLM Generation Runner"
    _order = "id"

    name = fields.Char("Process", required=True, readonly=True)
    started_at = fields.Datetime(required=True, readonly=True)
    heartbeat_at = fields.Datetime(
        required=True, readonly=True, help="Renewed every few seconds while the process lives."
    )
    slots = fields.Integer(readonly=True, help="Jobs that the process runs at once, at most.")
