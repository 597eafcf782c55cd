from collections import defaultdict
from datetime import timedelta

from odoo import api, fields, models

from ..const import ACTIVE_STATES
from ..runner.statements import figures as sql


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

    @api.model
    def _judge(self, queue, figures):
        """Return `(health, reason)`, from the worst finding down."""
        env, limit = self.env, queue.max_concurrent_jobs
        running, queued = figures["running"], figures["queued"]
        done, succeeded = int(figures["hour_finished"]), int(figures["hour_completed"])
        busy = running >= limit
        if not queue.enabled:
            return "disabled", env._("The queue is disabled: nothing starts.")
        if not queue.provider_id.sudo().active:
            return "disabled", env._("The provider is archived: nothing starts.")
        if queue.refused_by:
            what = dict(queue._fields["refused_by"]._description_selection(env))[queue.refused_by]
            return "critical", env._("The provider refuses our account: %s.", what)
        if busy and queued > 2 * limit:
            return "critical", env._("Every slot is busy (%(limit)s) and %(queued)s jobs wait.",
                                     limit=limit, queued=queued)  # fmt: skip
        if done >= 5 and succeeded * 2 < done:
            return "critical", env._("%(failed)s of the last hour's %(done)s jobs failed.",
                                     failed=done - succeeded, done=done)  # fmt: skip
        if queue.paused_until and queue.paused_until > fields.Datetime.now():
            return "warning", env._("The provider asked for a pause.")
        if busy:
            return "warning", env._("Every slot is busy (%s).", limit)
        if done >= 5 and succeeded * 10 < done * 9:
            return "warning", env._("%(failed)s of the last hour's %(done)s jobs failed.",
                                    failed=done - succeeded, done=done)  # fmt: skip
        return "healthy", env._("Slots are free and jobs succeed.")
