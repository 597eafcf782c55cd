from datetime import timedelta

from odoo import api, fields, models
from odoo.exceptions import AccessError, UserError
from odoo.fields import Domain

from ..const import HOPELESS, READY
from .llm_generation_job import FORESEEABLE

#: What to look at first.
URGENCY = ("critical", "warning", "healthy", "disabled")

#: Causes of failures that are told of, those of most jobs first.
SHOWN_INCIDENTS = 5
#: What can be done about one, and its icon.
INCIDENT_BUTTONS = {
    "test": "fa-plug",
    "retry": "fa-refresh",
    "move": "fa-share",
    "show": "fa-search",
}

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
    def get_views(self, views, options=None):
        self._refuse_users()
        return super().get_views(views, options)

    @api.model
    def _refuse_users(self):
        """Refuse the pages of all queues, which have addresses, to who is no manager."""
        if not (self.env.su or self.env.user.has_group("llm.group_llm_manager")):
            raise AccessError(
                self.env._("This page is for managers of LLM. What you asked is under Jobs.")
            )

    @api.model
    @api.readonly
    def get_dashboard(self):
        """Return what the dashboard draws, in a number of statements that no queue adds to.

        :raise AccessError: for who is no manager
        :return: dict of `cards`, one for each queue that the user may see, trouble first; `totals`
            over them; `incidents`, what failed lately by its cause; `steps` that lead to the first
            answer, empty once there was a job
        """
        self._refuse_users()
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
            "incidents": queues._dashboard_incidents(configured),
            "steps": self._dashboard_steps(cards),
        }

    def _dashboard_card(self, figures, can_configure):
        values = self.env["llm.generation.engine"]._values(self, figures)
        labels = dict(self._fields["queue_health"]._description_selection(self.env))
        ended = int(figures["completed"] + figures["failed"])
        since = figures["waiting_since"]
        now = fields.Datetime.now()
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
            "cooldown": (self.paused_until - now).total_seconds() if self.is_cooling else 0.0,
            "ended": ended,
            "failed": int(figures["failed"]),
            "success_rate": values["success_rate"] if ended else False,
            "avg_wait": values["avg_queue_time"],
            "avg_run": values["avg_processing_time"],
            "by_hour": values["jobs_by_hour"],
            "tokens_today": int(figures["tokens_today"]),
            "jobs_today": int(figures["today"]),
            "buttons": self._dashboard_buttons(figures) if can_configure else [],
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
        end = fields.Datetime.now() + timedelta(seconds=seconds)
        time = engine._clock_time(end)
        return self.env._("The backlog is done at about %s.", time)

    def _dashboard_buttons(self, figures):
        """Return `{name, label, icon, reason}` of each button.

        `reason` says why it can do nothing now, and is empty where it can.
        """
        env, waiting = self.env, figures["queued"]
        idle = "" if waiting else env._("No job waits.")
        if not self.enabled:
            stays = env._("The queue is paused. Resume it first.")
        elif not self.provider_id.active:
            stays = env._("The provider is archived. Restore it first.")
        else:
            is_stopped = self.is_cooling or self.refused_by or figures["paused_models"]
            stays = "" if is_stopped else idle
        spent = "" if figures["retriable"] else env._("No failed job can be retried.")
        is_failing = not self.refused_by and self.env["llm.generation.engine"]._is_failing(figures)
        buttons = [
            (True, "process", env._("Try Again Now"), "fa-play", stays),
            (self.enabled, "pause", env._("Pause"), "fa-pause", ""),
            (not self.enabled, "resume", env._("Resume"), "fa-play", ""),
            (True, "retry", env._("Retry Failed"), "fa-refresh", spent),
            (True, "clear", env._("Cancel Waiting Jobs"), "fa-trash-o", idle),
            (self.refused_by, "look", env._("Open the Provider"), "fa-plug", ""),
            (is_failing, "look", env._("Show What Failed"), "fa-search", ""),
        ]
        return [
            {"name": name, "label": label, "icon": icon, "reason": reason}
            for is_there, name, label, icon, reason in buttons
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
        # What is disabled has no slot that is free.
        slots = (card["running" if card["health"] == "disabled" else "limit"] for card in cards)
        return {
            "running": total("running"),
            "limit": sum(slots),
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

    # === INCIDENTS === #
    # What failed in the last 24 hours and was not tried again, by provider and cause. A request
    # that was refused for what it says is nobody else's.

    def _dashboard_incidents(self, configured):
        """Return what failed for which cause, as far as the user may see the jobs.

        :param configured: the queues whose failures the user may do something about
        :return: a dict of each: `queue_id`, `error_type` and `since`, which name it; `title`, the
            `words` of the newest error, `buttons` as those of a card
        """
        since = fields.Datetime.now() - timedelta(days=1)
        groups = self.env["llm.generation.job"]._read_group(
            Domain("provider_id", "in", self.provider_id.ids)
            & Domain("error_type", "!=", HOPELESS[0])
            & self._failed_since(since),
            ["provider_id", "error_type"],
            ["__count", "user_id:count_distinct", "completed_at:min", "id:max"],
            order="__count DESC",
            limit=SHOWN_INCIDENTS,
        )
        queues = {queue.provider_id: queue for queue in self}
        newest = self.env["llm.generation.job"].browse(group[-1] for group in groups)
        return [
            queues[provider]._dashboard_incident(
                *told, job, can_configure=queues[provider] in configured
            )
            for (provider, *told, _newest), job in zip(groups, newest, strict=True)
        ]

    def _dashboard_incident(self, error_type, jobs, users, since, newest, *, can_configure):
        env = self.env
        engine, Job = env["llm.generation.engine"], env["llm.generation.job"]
        labels = dict(Job._fields["error_type"]._description_selection(env))
        people = env._("%s users", users) if users != 1 else env._("1 user")
        many = env._("%s jobs", jobs) if jobs != 1 else env._("1 job")
        texts = {
            "test": env._("Test the Connection"),
            "retry": env._("Retry These %s", jobs) if jobs != 1 else env._("Retry It"),
            "move": env._("Move Them to…") if jobs != 1 else env._("Move It to…"),
            "show": env._("Show Them") if jobs != 1 else env._("Show It"),
        }
        return {
            "queue_id": self.id,
            "error_type": error_type,
            "since": fields.Datetime.to_string(since),
            "title": env._(
                "Since %(time)s: %(jobs)s of %(users)s, %(provider)s: %(cause)s",
                time=engine._clock_time(since),
                jobs=many,
                users=people,
                # sudo: who may see a queue may see the name of its provider, too.
                provider=self.provider_id.sudo().name,
                cause=labels.get(error_type) or env._("no reason was noted"),
            ),
            "words": engine._shortened(newest.error_message),
            "buttons": [
                {"name": name, "label": texts[name], "icon": icon}
                for name, icon in INCIDENT_BUTTONS.items()
                if can_configure or name == "show"
            ],
        }

    @api.model
    def _failed_since(self, since):
        return Domain([
            ("state", "=", "failed"),
            ("retry_at", "=", False),
            ("completed_at", ">=", since),
        ])

    def press_incident_button(self, button, error_type, since):
        """Do what a button of an incident says; the three come from `get_dashboard()`.

        :return: the action that does it, or shows it
        :raise UserError: for a button that is not known
        """
        self.ensure_one()
        if button == "test":
            return self.provider_id.action_test()
        domain = (
            Domain("provider_id", "=", self.provider_id.id)
            & Domain("error_type", "=", error_type or False)
            & self._failed_since(fields.Datetime.to_datetime(since))
        )
        if button in {"retry", "move"}:
            self.check_access("write")
            jobs = self.env["llm.generation.job"].search(domain)
            return jobs._bulk_action("retry") if button == "retry" else self._ask_where(jobs)
        if button == "show":
            return {**self._open_jobs("failed"), "domain": list(domain)}
        raise UserError(self.env._("This button is not known any more. Reload the page."))

    def _ask_where(self, jobs):
        """Return the action that asks for the model that these jobs are moved to."""
        others = self.provider_id._working_providers() - self.provider_id
        return {
            "type": "ir.actions.act_window",
            "name": self.env._("Move Jobs to Another Model"),
            "res_model": "llm.generation.move",
            "views": [(False, "form")],
            "target": "new",
            "context": {
                "active_model": jobs._name,
                "active_ids": jobs.ids,
                "default_provider_id": others[:1].id,
            },
        }

    @api.model
    def _dashboard_steps(self, cards):
        """Return the first steps, none once there was a job."""
        Job = self.env["llm.generation.job"]
        is_used = any(card["jobs_today"] or card["ended"] for card in cards)
        if is_used or Job.search_count([], limit=1):
            return []
        return Job.thread_id.get_first_steps()["steps"]
