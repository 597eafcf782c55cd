import math
import time
from datetime import timedelta

from odoo import api, fields, models
from odoo.fields import Domain

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
        # sudo: old jobs are removed whoever may see their provider. One after the other: the dates
        # are in an index by provider.
        providers = self.env["llm.provider"].sudo().with_context(active_test=False)
        removed, left = 0, providers.search(Domain.TRUE).ids
        while left:
            batch = self._remove_some(left[0], limit)
            removed += batch
            if batch < CLEAN_UP_BATCH:
                left.pop(0)
            if batch and time.monotonic() >= deadline:
                break
        return removed, bool(left)

    @api.model
    def _remove_some(self, provider_id, limit):
        """Remove a batch of a provider's jobs that ended before a date; return how many."""
        with self._transaction() as retention:
            jobs = retention.env["llm.generation.job"].search(
                [
                    ("provider_id", "=", provider_id),
                    ("completed_at", "<", limit),
                    ("state", "in", FINAL_STATES),
                    ("must_cancel", "=", False),  # the provider has still to be told
                ],
                limit=CLEAN_UP_BATCH,
                order="completed_at",
            )
            jobs = jobs.try_lock_for_update()  # another process may be at it
            jobs.unlink()
            return len(jobs)

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
