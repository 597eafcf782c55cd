from datetime import timedelta

from odoo import api, fields, models

from ..runner.statements.economy import SAVING

#: Hours after which an economy job runs in any case, where no date is given.
ECONOMY_HOURS = 24


class LlmGenerationJob(models.Model):
    """Jobs that can wait: they run when their queue is idle, at the latest at a date.

    Until then they are delayed ones, so that a claim has nothing to do with them.
    """

    _inherit = "llm.generation.job"

    is_economy = fields.Boolean(
        "Economy",
        help="Runs when nothing else waits, in half of the queue's slots at most; at the latest"
        " at its date, or after a day.",
    )

    #: Whether, and which, economy jobs wait in a queue: asked at each end of a job and each look at
    #: the clock, and mostly none do.
    _economy_idx = models.Index(f"(provider_id, priority, turn, queued_at, id) WHERE {SAVING}")

    @api.model_create_multi
    def create(self, vals_list):
        return super().create([self._with_latest_date(vals) for vals in vals_list])

    def write(self, vals):
        return super().write(self._with_latest_date(vals))

    @api.model
    def _with_latest_date(self, vals):
        if not vals.get("is_economy") or vals.get("scheduled_at"):
            return vals
        latest = fields.Datetime.now() + timedelta(hours=ECONOMY_HOURS)
        return {**vals, "scheduled_at": latest}
