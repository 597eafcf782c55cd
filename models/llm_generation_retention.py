import math
import time
from datetime import timedelta

from odoo import api, fields, models

from ..const import DEFAULT_RETENTION_DAYS, FINAL_STATES

#: Records removed in one transaction.
CLEAN_UP_BATCH = 1000
#: Seconds that the scheduled action cleans up at a time. Odoo calls it again for what is left, ten
#: times before others have their turn, and a worker process is ended after 120 s by default.
CLEAN_UP_SECONDS = 5.0


class LlmGenerationRetention(models.AbstractModel):
    """Removes the jobs that nobody looks at any more."""

    _name = "llm.generation.retention"
    _description = "LLM Generation Retention"
    _inherit = ["llm.generation.engine"]

    @api.model
    def _clean_up(self, days=None, seconds=math.inf):
        """Remove the jobs that ended more than `days` ago, in batches; messages stay.

        :param float seconds: no other batch is begun after these
        :return: how many were removed, and whether some may be left
        """
        deadline = time.monotonic() + seconds
        limit = self._kept_since(days)
        domain = [("completed_at", "<", limit), ("state", "in", FINAL_STATES)]
        removed, batch = 0, CLEAN_UP_BATCH
        while batch == CLEAN_UP_BATCH:
            with self._transaction() as retention:
                jobs = retention.env["llm.generation.job"].search(
                    domain, limit=CLEAN_UP_BATCH, order="completed_at"
                )
                jobs = jobs.try_lock_for_update()  # another process may be at it
                batch = len(jobs)
                jobs.unlink()
            removed += batch
            if time.monotonic() >= deadline:
                break
        return removed, batch == CLEAN_UP_BATCH

    @api.model
    def _kept_since(self, days=None):
        """Return the date of which on ended jobs are kept; None takes the days of the settings."""
        if days is None:
            # sudo: parameters are the administrators'.
            param = self.env["ir.config_parameter"].sudo()
            kept = param.get_param("llm_generate_job.retention_days")
            days = int(kept) if kept else DEFAULT_RETENTION_DAYS
        return fields.Datetime.now() - timedelta(days=days)

    @api.model
    def _clean_up_in_time(self):
        """Clean up for a few seconds; the scheduled action has itself called again for the rest."""
        removed, is_more = self._clean_up(seconds=CLEAN_UP_SECONDS)
        if self.env.context.get("cron_id"):
            self.env["ir.cron"]._commit_progress(removed, remaining=int(is_more))
