from odoo import models


class LlmGenerationAttempt(models.Model):
    _inherit = "llm.generation.attempt"

    # Rows end about in the order in which they were made: blocks of pages are enough to find those
    # of the last minute, and cost next to nothing to keep.
    _ended_idx = models.Index(
        "USING brin (ended_at) WITH (pages_per_range = 16, autosummarize = on)"
    )
