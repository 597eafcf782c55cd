import math

from odoo import api, models

from .. import statements as sql


class LlmGenerationRetention(models.AbstractModel):
    """Removes the batches that nobody looks at any more."""

    _inherit = "llm.generation.engine"

    @api.model
    def _clean_up(self, days=None, seconds=math.inf):
        result = super()._clean_up(days, seconds)
        with self._transaction() as own:
            limit = own._kept_since(days)
            own._change(sql.EMPTY_BATCHES, [limit], touches=["llm.generation.batch"])
        return result
