from odoo import fields, models


class LlmGenerationBucket(models.Model):
    """What the engine keeps of a queue: its allowance of requests and tokens, its last work.

    Apart from the queue, so that a claim never collides with a manager who saves its settings.
    """

    _name = "llm.generation.bucket"
    _description = "LLM Generation Allowance"
    _log_access = False

    queue_id = fields.Many2one("llm.generation.queue", required=True, ondelete="cascade")
    request_level = fields.Float(required=True, default=0)
    token_level = fields.Float(required=True, default=0)
    filled_at = fields.Datetime(required=True, default=fields.Datetime.now)

    processed_at = fields.Datetime()

    _queue_unique = models.UniqueIndex("(queue_id)")
