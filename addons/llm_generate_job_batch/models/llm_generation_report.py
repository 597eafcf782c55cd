from odoo import fields, models
from odoo.tools import SQL


class LlmGenerationReport(models.Model):
    """Tells what was answered in a batch, at half the price, from what was not."""

    _inherit = "llm.generation.report"

    batch_priced = fields.Boolean("Batch Price", readonly=True)
    batch_tokens = fields.Integer("Tokens at Batch Price", readonly=True)

    _depends = {"llm.generation.job": ["batch_priced"]}

    @property
    def _table_query(self):
        # Its own table has no join, so that PostgreSQL dissolves it: neither has this one.
        return SQL(
            """
            SELECT r.*, COALESCE(j.batch_priced, FALSE) AS batch_priced,
                -- Those of the last attempt: the ones before may have been at the full price.
                CASE WHEN j.batch_priced
                    THEN COALESCE(j.prompt_tokens, 0) + COALESCE(j.completion_tokens, 0)
                    ELSE 0 END AS batch_tokens
            FROM (%s) r JOIN llm_generation_job j ON j.id = r.id
            """,
            super()._table_query,
        )
