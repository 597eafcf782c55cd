from odoo import fields, models


class LlmGenerationTally(models.Model):
    """Counters that only grow, as monitoring wants them: old jobs are removed, these stay."""

    _name = "llm.generation.tally"
    _description = "LLM Generation Tally"
    _log_access = False

    provider_id = fields.Many2one("llm.provider", required=True, ondelete="cascade")
    series = fields.Char(required=True)
    label = fields.Char(required=True)
    value = fields.Float(required=True)

    _counter_unique = models.UniqueIndex("(provider_id, series, label)")


class LlmGenerationTallyMark(models.Model):
    """Up to when the counters have counted: a single row."""

    _name = "llm.generation.tally.mark"
    _description = "LLM Generation Tally Mark"
    _log_access = False

    counted_until = fields.Datetime(required=True)
