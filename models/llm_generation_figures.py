from collections import defaultdict
from datetime import timedelta

from odoo import api, fields, models

from ..const import ACTIVE_STATES
from ..runner import statements as sql


class LlmGenerationFigures(models.AbstractModel):
    """Counts and averages, in a number of statements that does not grow with the queues."""

    _name = "llm.generation.figures"
    _description = "LLM Generation Figures"

    @api.model
    def _figures(self, queues):
        """Return the figures of queues by id, in one statement whatever their number."""
        now = fields.Datetime.now()
        params = {
            "queues": queues.ids,
            "providers": queues.provider_id.ids,
            "midnight": now.replace(hour=0, minute=0, second=0),
            "hour_ago": now - timedelta(hours=1),
            "day_ago": now - timedelta(days=1),
        }
        self.env.flush_all()
        self.env.cr.execute(sql.FIGURES, params)
        figures = {}
        for row in self.env.cr.dictfetchall():
            live = dict.fromkeys(("draft", *ACTIVE_STATES), 0) | (row.pop("counts") or {})
            last = row.pop("last_processed_at")
            ended = {name: float(value or 0) for name, value in row.items()}
            ended["today"] += live["queued"] + live["running"]
            figures[row["queue_id"]] = {**ended, **live, "last_processed_at": last}
        return defaultdict(lambda: defaultdict(float, last_processed_at=False), figures)

    @api.model
    def _queue_positions(self, jobs):
        """Return the place in the queue of each waiting job, by id; 1 is next."""
        waiting = [job.id for job in jobs if isinstance(job.id, int)]
        if not waiting:
            return {}
        self.env.flush_all()
        self.env.cr.execute(sql.POSITIONS, [waiting])
        return dict(self.env.cr.fetchall())
