from odoo import fields, models


class LlmGenerationAttempt(models.Model):
    """An attempt that queue_job executes."""

    _inherit = "llm.generation.attempt"

    queue_job_uuid = fields.Char(
        "Queue Job", readonly=True, help="UUID of the record of queue_job that executes it."
    )
    queue_job_begun_at = fields.Datetime(
        "Begun by queue_job", readonly=True, help="Until then a claimed job waits for a worker."
    )
