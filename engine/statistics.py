from collections import defaultdict
from datetime import UTC, datetime

from odoo import api, fields, models
from odoo.tools import format_datetime, format_time

from ..const import ACTIVE_STATES, READY
from ..runner.limits import HEARTBEAT_TIMEOUT
from . import sql

#: What a queue has that has done nothing yet.
NOTHING = {
    "last_processed_at": False,
    "waiting_since": None,
    "by_hour": None,
    "retriable": False,
    "paused_models": None,
    "has_runner": True,
}
#: Seconds that a job may stand in line while no server runs any: one is started within a minute.
NO_RUNNER = 120
AVERAGES = ("avg_queue_time", "avg_processing_time")


class LlmGenerationEngine(models.AbstractModel):
    """Counts and averages, in a number of statements that does not grow with the queues."""

    _inherit = "llm.generation.engine"

    @api.model
    def _statistics(self, queues):
        """Return the figures of queues by id, in one statement whatever their number.

        Counts are of now, of today as the user has it (`today`, `tokens_today`), of the last hour
        (`hour_…`), and else of the last 24 hours; `by_hour` has a pair `[completed, failed]` for
        each of these hours, the oldest first. Averages are in seconds.
        """
        now = datetime.now(UTC).replace(tzinfo=None)  # to the microsecond, as jobs end
        midnight = fields.Datetime.context_timestamp(self, now).replace(
            hour=0, minute=0, second=0, microsecond=0
        )
        params = {
            "queues": queues.ids,
            "providers": queues.provider_id.ids,
            "now": now,
            "silence": HEARTBEAT_TIMEOUT,
            "midnight": midnight.astimezone(UTC).replace(tzinfo=None),
        }
        self.env.flush_all()
        self.env.cr.execute(sql.FIGURES, params)
        figures = {row["queue_id"]: self._row_statistics(row) for row in self.env.cr.dictfetchall()}
        return defaultdict(lambda: defaultdict(int, NOTHING), figures)

    @api.model
    def _row_statistics(self, row):
        names = ("draft", "held", READY.name, *ACTIVE_STATES)
        live = dict.fromkeys(names, 0) | (row.pop("counts") or {})
        live["delayed"] = live["queued"] - live[READY.name]
        kept = {name: row.pop(name) for name in NOTHING}
        averages = {name: float(row.pop(name) or 0) for name in AVERAGES}
        ended = {name: int(value or 0) for name, value in row.items()} | averages
        ended["today"] += live["queued"] + live["running"]
        return {**ended, **live, **kept}

    @api.model
    def _values(self, queue, figures):
        """Return the computed fields of a queue."""
        finished = figures["completed"] + figures["failed"]
        health, reason = self._evaluate_health(queue, figures)
        return {
            "current_running_jobs": figures["running"],
            "queued_jobs_count": figures["queued"],
            "total_jobs_today": figures["today"],
            "avg_queue_time": figures["avg_queue_time"],
            "avg_processing_time": figures["avg_processing_time"],
            "success_rate": 100.0 * figures["completed"] / finished if finished else 0.0,
            "throughput": finished / 24.0,
            "has_retriable_jobs": figures["retriable"],
            "last_processed_at": figures["last_processed_at"],
            "queue_health": health,
            "health_reason": reason,
        }

    @api.model
    def _queue_positions(self, jobs):
        """Return the place of each job that stands in line, by id; 1 is next.

        What waits for its date stands nowhere yet.
        """
        waiting = [job.id for job in jobs if isinstance(job.id, int)]
        if not waiting:
            return {}
        self.env.flush_all()
        self.env.cr.execute(sql.POSITIONS, [waiting])
        return dict(self.env.cr.fetchall())

    @api.model
    def _waits(self, jobs):
        """Return by id what may keep jobs from being claimed: a row of `WAITS` for each."""
        ids = [job.id for job in jobs if isinstance(job.id, int)]
        if not ids:
            return {}
        self.env.flush_all()
        self.env.cr.execute(sql.WAITS, {"jobs": ids, "silence": HEARTBEAT_TIMEOUT})
        return {row.pop("id"): row for row in self.env.cr.dictfetchall()}

    @api.model
    def _clock_time(self, moment, zone=None):
        """Return when something is, in the user's time: the hour of today, else the date, too.

        :param datetime moment: in UTC
        :param str zone: the time zone of who reads it, where the context has none
        """
        zone = self.env.context.get("tz") or zone or self.env.user.tz
        reader = self.with_context(tz=zone)
        here, now = (
            fields.Datetime.context_timestamp(reader, one).date()
            for one in (moment, fields.Datetime.now())
        )
        if here == now:
            return format_time(self.env, moment, tz=zone, time_format="short")
        return format_datetime(self.env, moment, tz=zone)

    @api.model
    def _evaluate_health(self, queue, figures):
        """Return `(health, reason)`, from the worst finding down."""
        return (
            self._evaluate_start(queue, figures)
            or self._evaluate_work(queue, figures)
            or ("healthy", self.env._("Slots are free and jobs succeed."))
        )

    @api.model
    def _evaluate_start(self, queue, figures):
        """Return the same about why nothing starts, None where something may."""
        env = self.env
        if not queue.enabled:
            return "disabled", env._("Paused by an administrator: nothing starts.")
        # sudo: who may see a queue may see whether it can start anything.
        if not queue.provider_id.sudo().active:
            return "disabled", env._("The provider is archived: nothing starts.")
        if queue.refused_by:
            what = dict(queue._fields["refused_by"]._description_selection(env))[queue.refused_by]
            return "critical", env._("The provider refuses our account: %s.", what)
        if self._nobody_starts(queue, figures):
            return "critical", env._(
                "Jobs wait, and no server runs them. Odoo has to be running,"
                " with one cron thread at least (max_cron_threads)."
            )
        return None

    @api.model
    def _evaluate_work(self, queue, figures):
        """Return the same about what runs, None where all is well."""
        env, limit = self.env, queue.max_concurrent_jobs
        running, ready = figures["running"], figures[READY.name]
        done, succeeded, held = figures["hour_finished"], figures["hour_completed"], figures["held"]
        busy = running + held >= limit
        if busy and held and ready:
            return "warning", env._(
                "Every slot is busy (%(limit)s), %(held)s of them with calls that were given up and"
                " may go on at the provider.",
                limit=limit,
                held=held,
            )
        if busy and ready > 2 * limit:
            return "critical", env._("Every slot is busy (%(limit)s) and %(queued)s jobs wait.",
                                     limit=limit, queued=ready)  # fmt: skip
        if done >= 5 and succeeded * 2 < done:
            return "critical", env._("%(failed)s of the last hour's %(done)s jobs failed.",
                                     failed=done - succeeded, done=done)  # fmt: skip
        if pause := self._pause_reason(queue, figures):
            return "warning", pause
        if busy:
            return "warning", env._("Every slot is busy (%s).", limit)
        if done >= 5 and succeeded * 10 < done * 9:
            return "warning", env._("%(failed)s of the last hour's %(done)s jobs failed.",
                                    failed=done - succeeded, done=done)  # fmt: skip
        return None

    @api.model
    def _nobody_starts(self, queue, figures):
        """Return whether jobs wait that could start, and no process that runs jobs is alive."""
        since, now = figures["waiting_since"], fields.Datetime.now()
        paused = queue.paused_until and queue.paused_until > now
        if figures["has_runner"] or paused or not since:
            return False
        return (now - since).total_seconds() > NO_RUNNER

    @api.model
    def _pause_reason(self, queue, figures):
        if queue.paused_until and queue.paused_until > fields.Datetime.now():
            return self.env._("Calls pause; the newest failures tell why.")
        if paused := figures["paused_models"]:
            return self.env._("Calls of %s pause; the newest failures tell why.", paused)
        return ""
