from datetime import UTC, timedelta

from odoo import api, fields, models
from odoo.exceptions import UserError
from odoo.fields import Domain
from odoo.tools import format_datetime, format_time

from ..const import READY
from .llm_generation_job import FORESEEABLE

#: What to look at first.
URGENCY = ("critical", "warning", "healthy", "disabled")

#: Fields of a queue that a card shows, besides its figures.
SHOWN = {"enabled", "max_concurrent_jobs", "paused_until", "refused_by"}


class LlmGenerationQueue(models.Model):
    """What the dashboard draws of the queues, and what its buttons do."""

    _inherit = "llm.generation.queue"

    def write(self, vals):
        result = super().write(vals)
        if SHOWN & vals.keys():
            self.env["llm.generation.engine"]._announce_queues(self.provider_id)
        return result

    @api.model
    @api.readonly
    def get_dashboard(self):
        """Return what the dashboard draws, in a number of statements that no queue adds to.

        :return: dict of `cards`, one for each queue that the user may see, trouble first; `totals`
            over them; `steps` that lead to the first answer, empty once there was a job
        """
        queues = self.search(Domain.TRUE)
        figures = self.env["llm.generation.engine"]._statistics(queues)
        configured = queues._filtered_access("write")  # not those that all companies share
        # sudo: who may see a queue may see the name of its provider, too.
        cards = [
            queue.sudo()._dashboard_card(figures[queue.id], queue in configured) for queue in queues
        ]
        cards.sort(key=lambda card: (URGENCY.index(card["health"]), card["name"], card["id"]))
        return {
            "cards": cards,
            "totals": self._dashboard_totals(cards),
            "steps": self._dashboard_steps(cards),
        }

    def _dashboard_card(self, figures, can_configure):
        values = self.env["llm.generation.engine"]._values(self, figures)
        labels = dict(self._fields["queue_health"]._description_selection(self.env))
        ended = int(figures["completed"] + figures["failed"])
        since = figures["waiting_since"]
        now = fields.Datetime.now()
        cooling = self.enabled and self.paused_until and self.paused_until > now
        return {
            "id": self.id,
            "name": self.provider_id.name,
            "health": values["queue_health"],
            "health_label": labels[values["queue_health"]],
            "reason": values["health_reason"],
            "running": figures["running"],
            "limit": self.max_concurrent_jobs,
            "waiting": figures["queued"],
            "delayed": figures["delayed"],
            "oldest_wait": max(0.0, (now - since).total_seconds()) if since else 0.0,
            "forecast": self._dashboard_forecast(figures),
            "cooldown": (self.paused_until - now).total_seconds() if cooling else 0.0,
            "ended": ended,
            "failed": int(figures["failed"]),
            "success_rate": values["success_rate"] if ended else False,
            "avg_wait": values["avg_queue_time"],
            "avg_run": values["avg_processing_time"],
            "by_hour": figures["by_hour"] or [[0, 0]] * 24,
            "tokens_today": int(figures["tokens_today"]),
            "jobs_today": int(figures["today"]),
            "buttons": self._dashboard_buttons(figures, cooling) if can_configure else [],
        }

    def _dashboard_forecast(self, figures):
        """Return when the backlog will be done, empty where that would be a guess."""
        pace = {
            "measured": figures["completed"] + figures["failed"],
            "seconds": figures["avg_processing_time"],
            "running": figures["running"],
            "paused_models": figures["paused_models"],
            "has_runner": figures["has_runner"],
        }
        engine = self.env["llm.generation.engine"]
        seconds = engine._forecast(self, figures[READY.name], pace)
        if not seconds or seconds > FORESEEABLE:
            return ""
        now = fields.Datetime.context_timestamp(self, fields.Datetime.now())
        end = now + timedelta(seconds=seconds)
        show = format_time if end.date() == now.date() else format_datetime
        time = show(self.env, end.astimezone(UTC).replace(tzinfo=None), tz=now.tzinfo.zone,
                    **{"time_format" if show is format_time else "dt_format": "short"})  # fmt: skip
        return self.env._("The backlog is done at about %s.", time)

    def _dashboard_buttons(self, figures, cooling):
        """Return `{name, label, icon, confirm, reason}` of each button.

        `reason` says why it can do nothing now, and is empty where it can.
        """
        env, waiting = self.env, figures["queued"]
        idle = "" if waiting else env._("No job waits.")
        if not self.enabled:
            stays = env._("The queue is paused. Resume it first.")
        elif not self.provider_id.active:
            stays = env._("The provider is archived. Restore it first.")
        else:
            stays = "" if cooling or self.refused_by else idle
        spent = "" if figures["retriable"] else env._("No failed job can be retried.")
        is_failing = not self.refused_by and self.env["llm.generation.engine"]._is_failing(figures)
        buttons = [
            (True, "process", env._("Try Again Now"), "fa-play", False, stays),
            (self.enabled, "pause", env._("Pause"), "fa-pause", False, ""),
            (not self.enabled, "resume", env._("Resume"), "fa-play", False, ""),
            (True, "retry", env._("Retry Failed"), "fa-refresh", False, spent),
            (True, "clear", env._("Cancel Waiting Jobs"), "fa-trash-o", False, idle),
            (self.refused_by, "look", env._("Open the Provider"), "fa-plug", False, ""),
            (is_failing, "look", env._("Show What Failed"), "fa-search", False, ""),
        ]
        return [
            {"name": name, "label": label, "icon": icon, "confirm": confirm, "reason": reason}
            for is_there, name, label, icon, confirm, reason in buttons
            if is_there
        ]

    def press_dashboard_button(self, button):
        """Do what a button of a card says.

        :param str button: its name, see `_dashboard_buttons()`
        :return: a sentence that tells what was done, or the action that does it to many jobs
        """
        self.ensure_one()
        self.check_access("write")
        # sudo: who may see a queue may see the name of its provider, too.
        env, name = self.env, self.provider_id.sudo().name
        match button:
            case "process":
                self.action_process_queue()
                return env._("%s starts what it may start now.", name)
            case "pause":
                self.action_disable()
                return env._("%s starts nothing more. What runs ends, what waits is kept.", name)
            case "resume":
                self.action_enable()
                return env._("%s starts jobs again.", name)
            case "look":
                return self.action_open_trouble()
            case "retry":
                return self.action_bulk_retry_failed()
            case "clear":
                return self.action_bulk_clear()
        raise UserError(env._("This button is not known any more. Reload the page."))

    @api.model
    def _dashboard_totals(self, cards):
        """Return the figures of all queues together."""

        def total(name):
            return sum(card[name] for card in cards)

        ended, failed = total("ended"), total("failed")
        return {
            "running": total("running"),
            "limit": sum(card["limit"] for card in cards if card["health"] != "disabled"),
            "waiting": total("waiting"),
            "oldest_wait": max((card["oldest_wait"] for card in cards), default=0.0),
            "ended": ended,
            "failed": failed,
            "success_rate": 100.0 * (ended - failed) / ended if ended else False,
            "tokens_today": total("tokens_today"),
            "jobs_today": total("jobs_today"),
            "health": [
                {"health": health, "label": label, "count": count}
                for health, label in self._fields["queue_health"]._description_selection(self.env)
                if (count := sum(card["health"] == health for card in cards))
            ],
        }

    @api.model
    def _dashboard_steps(self, cards):
        """Return the first steps, none once there was a job."""
        Job = self.env["llm.generation.job"]
        is_used = any(card["jobs_today"] or card["ended"] for card in cards)
        if is_used or Job.search_count([], limit=1):
            return []
        return self.env["llm.thread"].get_first_steps()["steps"]
