import logging
from collections import defaultdict
from datetime import UTC, datetime, time

from odoo import api, fields, models
from odoo.tools import SQL, format_datetime, format_time
from odoo.tools.sql import escape_psql

from ..const import READY
from ..runner.cursor import LazyCursor
from ..runner.limits import HEARTBEAT, HEARTBEAT_TIMEOUT
from . import sql

_logger = logging.getLogger(__name__)

#: What a queue has that has done nothing yet.
NOTHING = {
    "last_processed_at": False,
    "waiting_since": None,
    "by_hour": None,
    "retriable": False,
    "paused_models": None,
    "has_runner": True,
    "is_deaf": False,
    "versions": {},
    "failing_since": None,
    "failing_words": None,
}
#: Seconds that a job may stand in line while no server runs any: one is started within a minute.
NO_RUNNER = 120
#: Seconds after which what waits is a backlog, and has had time to move.
BACKLOG = 600
#: Characters of an error that a page of a queue tells.
SHOWN_WORDS = 200
#: Jobs that have to have ended before it is foretold how long others take.
MEASURED = 5
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
        today = fields.Datetime.context_timestamp(self, now).date()
        # By the clock of its own hour: twice a year it is another one than now.
        midnight = self.env.tz.localize(datetime.combine(today, time.min))
        params = {
            "queues": queues.ids,
            "providers": queues.provider_id.ids,
            "now": now,
            "silence": HEARTBEAT_TIMEOUT,
            "modules": self._own_modules(),
            "companies": self._seen_companies(),
            "midnight": midnight.astimezone(UTC).replace(tzinfo=None),
        }
        rows = self._look(sql.FIGURES, **params)
        figures = {row["queue_id"]: self._row_statistics(row) for row in rows}
        return defaultdict(lambda: defaultdict(int, NOTHING), figures)

    @api.model
    def _look(self, statement, *args, **params):
        """Return the rows of a look at many jobs as dicts, on what the ORM has in mind."""
        query = SQL(statement, *args, **params)
        if not isinstance(self.env.cr, LazyCursor):  # whose connections compile nothing
            query = SQL("%s%s", SQL(sql.UNCOMPILED), query)
        self.env.flush_all()
        self.env.cr.execute(query)
        return self.env.cr.dictfetchall()

    @api.model
    def _row_statistics(self, row):
        names = ("draft", "held", READY.name, "delayed", "running")
        live = dict.fromkeys(names, 0) | (row.pop("counts") or {})
        live["queued"] = live[READY.name] + live["delayed"]
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
            "jobs_by_hour": figures["by_hour"] or [[0, 0]] * 24,
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
        return {row["id"]: row["place"] for row in self._look(sql.POSITIONS, waiting)}

    @api.model
    def _waits(self, jobs):
        """Return by id what may keep jobs from being claimed: a row of `WAITS` for each."""
        ids = [job.id for job in jobs if isinstance(job.id, int)]
        if not ids:
            return {}
        rows = self._look(sql.WAITS, jobs=ids, silence=HEARTBEAT_TIMEOUT)
        return {row.pop("id"): row for row in rows}

    @api.model
    def _clock_time(self, moment, zone=None, *, precise=False):
        """Return when something is, in the user's time: the hour of today, else the date, too.

        :param datetime moment: in UTC
        :param str zone: the time zone of who reads it, where the context has none
        :param bool precise: tell the seconds, too
        """
        zone = self.env.context.get("tz") or zone or self.env.user.tz
        reader = self.with_context(tz=zone)
        here, now = (
            fields.Datetime.context_timestamp(reader, one).date()
            for one in (moment, fields.Datetime.now())
        )
        if here == now:
            style = "medium" if precise else "short"
            return format_time(self.env, moment, tz=zone, time_format=style)
        return format_datetime(self.env, moment, tz=zone)

    @api.model
    def _pace(self, queue):
        """Return how fast a queue works, as `_forecast()` takes it."""
        [pace] = self._look(
            sql.PACE,
            provider=queue.provider_id.id,
            queue=queue.id,
            silence=HEARTBEAT_TIMEOUT,
        )
        return pace

    @api.model
    def _forecast(self, queue, ahead, pace):
        """Return in how many seconds so many jobs that stand in line will have had their turn.

        None where that would be a guess: nothing was measured, the queue is held up, or a limit
        counts whose use nobody knows before.

        :param dict pace: `measured` jobs, which took `seconds` each; how many are `running`;
            whether there are `paused_models`, and a process that `has_runner`
        """
        is_held = (
            not queue.enabled
            or queue.refused_by
            or (queue.paused_until and queue.paused_until > fields.Datetime.now())
            or pace["paused_models"]
            or not pace["has_runner"]
        )
        is_unknown = queue.tokens_per_minute or queue.model_limit_ids
        if is_held or is_unknown or not ahead or pace["measured"] < MEASURED:
            return None
        # What runs is half done, as far as one knows.
        work = (ahead + pace["running"] / 2) * pace["seconds"] / queue.max_concurrent_jobs
        per_minute = queue.requests_per_minute
        return max(work, ahead * 60 / per_minute if per_minute else 0.0)

    @api.model
    def _jobs_saying(self, words, jobs, threads):
        """Return the ids of the jobs whose question or answer has some words.

        :param Query jobs: those that are searched
        :param Query threads: the conversations that one may read
        """
        columns = ("id", "thread_id", "input_message_id", "output_message_id", "post")
        rows = self._look(
            sql.SAYING,
            newest=jobs.select(*(SQL.identifier(jobs.table, name) for name in columns)),
            threads=threads.subselect(),
            words=f"%{escape_psql(words)}%",
        )
        return [row["id"] for row in rows]

    @api.model
    def _evaluate_health(self, queue, figures):
        """Return `(health, reason)`, from the worst finding down.

        The reason tells what it is, since when, in the provider's words, and what to do. Critical
        is what needs somebody; a line that moves does not.
        """
        return (
            self._evaluate_start(queue, figures)
            or self._evaluate_work(queue, figures)
            or ("healthy", self._good_news(figures))
        )

    @api.model
    def _good_news(self, figures):
        if figures["completed"] + figures["failed"]:
            return self.env._("Slots are free and jobs succeed.")
        if figures["last_processed_at"]:
            return self.env._("Ready. Nothing has ended in the last 24 hours.")
        return self.env._("Ready. Nothing has run yet.")

    @api.model
    def _since(self, moment):
        return self.env._("Since %s.", self._clock_time(moment)) if moment else ""

    @api.model
    def _shortened(self, words):
        words = " ".join((words or "").split()).rstrip(".")
        return f"{words[:SHOWN_WORDS]}…" if len(words) > SHOWN_WORDS else words

    @api.model
    def _in_its_words(self, words):
        # An error may repeat what was asked: who sees a queue need not see that.
        user = self.env.user
        may_read = user._is_superuser() or user.has_group("llm.group_llm_manager")
        words = self._shortened(words) if may_read else ""
        return self.env._("The newest error says: “%s”.", words) if words else ""

    @api.model
    def _joined(self, *sentences):
        return " ".join(filter(None, sentences))

    @api.model
    def _evaluate_start(self, queue, figures):
        """Return the same about why nothing starts, None where something may."""
        env = self.env
        if not queue.enabled:
            what = env._("Paused by an administrator: nothing starts.")
            todo = env._("Press Resume to go on.")
            return "disabled", self._joined(what, self._since(queue.stopped_since), todo)
        # sudo: who may see a queue may see whether it can start anything.
        if not queue.provider_id.sudo().active:
            return "disabled", env._("The provider is archived: nothing starts.")
        if queue.refused_by:
            what, todo = {
                "authentication": (
                    env._("The provider rejects the API key."),
                    env._("Correct the key in the provider, then press Try Again Now."),
                ),
                "quota": (
                    env._("The account at the provider has no credit left."),
                    env._("Top it up at the provider, then press Try Again Now."),
                ),
            }[queue.refused_by]
            # sudo: to whom the words are told is looked at there.
            words = self._in_its_words(queue.sudo().stopped_words)
            since = self._since(queue.stopped_since)
            return "critical", self._joined(what, since, words, env._("Jobs are kept."), todo)
        # While an older server runs jobs, others may wait for their upgrade.
        if not figures["has_runner"] and (newer := self._newer(figures["versions"])):
            return "critical", env._(
                "Nothing starts: the code on the server is newer than the database. An"
                " administrator has to upgrade it with -u %s.",
                ",".join(newer),
            )
        if self._nobody_starts(queue, figures):
            what = self._why_nobody_starts()
            return "critical", self._joined(what, self._since(figures["waiting_since"]))
        return None

    @api.model
    def _why_nobody_starts(self):
        # Odoo itself archives a scheduled action that has failed for days.
        if self._pump_cron().active:
            return self.env._(
                "Jobs wait, and no server runs them. Odoo has to be running,"
                " with one cron thread at least (max_cron_threads)."
            )
        return self.env._(
            "Jobs wait, and no server runs them: the scheduled action “LLM Generation: process"
            " queues” is archived or deleted. Activate it; an upgrade of the addon brings it back."
        )

    @api.model
    def _evaluate_work(self, queue, figures):
        """Return the same about what runs, None where all is well."""
        env, limit = self.env, queue.max_concurrent_jobs
        running, ready = figures["running"], figures[READY.name]
        done, held = figures["hour_finished"], figures["held"]
        busy = running + held >= limit
        if done >= 5 and figures["hour_completed"] * 2 < done:
            return "critical", self._failing_reason(figures)
        if busy and held and ready:
            return "warning", env._(
                "Every slot is busy (%(limit)s), %(held)s of them with calls that were given up and"
                " may go on at the provider.",
                limit=limit,
                held=held,
            )
        if pause := self._pause_reason(queue, figures):
            return "warning", pause
        if stuck := self._backlog_reason(queue, figures, busy):
            return "critical", stuck
        if busy and ready:
            return "warning", env._("Every slot is busy (%(limit)s) and %(queued)s jobs wait.",
                                    limit=limit, queued=ready)  # fmt: skip
        if busy:
            return "warning", env._("Every slot is busy (%s).", limit)
        if self._is_failing(figures):
            return "warning", self._failing_reason(figures)
        if figures["is_deaf"]:
            return "warning", env._(
                "What the database tells does not reach a server that runs jobs: they start up to"
                " %s seconds late. Connect Odoo to PostgreSQL directly, or by a pooler that lends"
                " connections by session, not by transaction.",
                int(HEARTBEAT),
            )
        return None

    @api.model
    def _failing_reason(self, figures):
        done = figures["hour_finished"]
        return self._joined(
            self.env._(
                "%(failed)s of the last hour's %(done)s jobs failed.",
                failed=done - figures["hour_completed"],
                done=done,
            ),
            self._since(figures["failing_since"]),
            self._in_its_words(figures["failing_words"]),
            self.env._("Open the failed jobs, and retry them once the cause is gone."),
        )

    @api.model
    def _is_failing(self, figures):
        done = figures["hour_finished"]
        return done >= 5 and figures["hour_completed"] * 10 < done * 9

    @api.model
    def _backlog_reason(self, queue, figures, busy):
        """Return why what waits needs somebody, nothing while the line is short, or moves."""
        env, ready, since = self.env, figures[READY.name], figures["waiting_since"]
        now = fields.Datetime.now()
        if not since or (now - since).total_seconds() < BACKLOG:
            return ""
        # What has just been let go on has had no time to move.
        moved = max(filter(None, (
            since, figures["last_processed_at"], queue.paused_until, queue.write_date,
        )))  # fmt: skip
        patience = max(BACKLOG, 3 * figures["avg_processing_time"])
        if (now - moved).total_seconds() > patience and not figures["ended_lately"]:
            return self._joined(
                env._("%s jobs wait, and none starts.", ready),
                self._since(moved),
                env._("Look at what runs, and cancel what hangs."),
            )
        # One more than a slow queue has ended yet is no growth.
        if busy and figures["came_lately"] > figures["ended_lately"] + queue.max_concurrent_jobs:
            return self._joined(
                env._(
                    "%(queued)s jobs wait, and more come than end: %(came)s in ten minutes, while"
                    " %(ended)s ended.",
                    queued=ready,
                    came=figures["came_lately"],
                    ended=figures["ended_lately"],
                ),
                self._since(since),
                env._("Raise the limit of jobs, if the provider allows for more."),
            )
        return ""

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
        env, now = self.env, fields.Datetime.now()
        if queue.paused_until and queue.paused_until > now:
            return self._joined(
                env._("Calls pause, and go on by themselves."),
                self._since(queue.stopped_since),
                # sudo: to whom the words are told is looked at there.
                self._in_its_words(queue.sudo().stopped_words),
            )
        if not figures["paused_models"]:
            return ""
        name, refused_by, since, words = figures["paused_models"][0]
        names = ", ".join(model[0] for model in figures["paused_models"])
        if refused_by:
            what = env._("The provider refuses the model %s.", name)
            todo = env._("Check what the API key may use, then press Try Again Now.")
        else:
            what = env._("Calls of %s pause, and go on by themselves.", names)
            todo = ""
        since = self._since(since and fields.Datetime.to_datetime(since[:19].replace("T", " ")))
        return self._joined(what, since, self._in_its_words(words), todo)
