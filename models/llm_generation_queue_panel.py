import base64
import binascii
import json
from collections import defaultdict
from datetime import timedelta

from odoo import api, fields, models
from odoo.exceptions import UserError

#: Hours that the graph of a queue shows.
GRAPH_HOURS = 24


class LlmGenerationQueue(models.Model):
    """What only the views of a queue need: a graph, a secret's letterbox, bulk actions."""

    _inherit = "llm.generation.queue"

    throughput_graph = fields.Text(
        "Jobs Ended by Hour",
        compute="_compute_throughput_graph",
        help="Jobs that completed or failed in each of the last 24 hours.",
    )
    can_configure = fields.Boolean(compute="_compute_can_configure")
    has_webhook_secret = fields.Boolean(
        compute="_compute_webhook_secret", groups="llm.group_llm_manager"
    )
    new_webhook_secret = fields.Char(
        "Webhook Secret",
        compute="_compute_webhook_secret",
        inverse="_inverse_new_webhook_secret",
        groups="llm.group_llm_manager",
        help="The secret that the provider shows where webhooks are set up. Once saved it is not"
        " shown again.",
    )

    # === COMPUTE METHODS === #

    def _compute_throughput_graph(self):
        now = fields.Datetime.now().replace(minute=0, second=0, microsecond=0)
        hours = [now - timedelta(hours=back) for back in reversed(range(GRAPH_HOURS))]
        counts = defaultdict(int)
        # sudo: the figures of a queue are those of all its jobs.
        jobs = self.env["llm.generation.job"].sudo().with_context(tz="UTC")
        for provider, hour, count in jobs._read_group(
            [
                ("provider_id", "in", self.provider_id.ids),
                ("completed_at", ">=", hours[0]),
                ("state", "in", ("completed", "failed")),
            ],
            ["provider_id", "completed_at:hour"],
            ["__count"],
        ):
            counts[provider.id, hour.replace(tzinfo=None)] += count
        labels = {hour: fields.Datetime.context_timestamp(self, hour) for hour in hours}
        for queue in self:
            values = [
                {
                    "label": labels[hour].strftime("%H:%M"),
                    "value": counts[queue.provider_id.id, hour],
                    "type": "past",
                }
                for hour in hours
            ]
            queue.throughput_graph = json.dumps([
                {"key": self.env._("Jobs ended by hour"), "values": values}
            ])

    @api.depends_context("uid", "su", "allowed_company_ids")
    def _compute_can_configure(self):
        """Say who may press a button: of what all companies share, who has settings rights."""
        mine = self._filtered_access("write")
        for queue in self:
            queue.can_configure = queue in mine

    @api.depends("webhook_secret")
    def _compute_webhook_secret(self):
        stored = self._filtered_access("read")._origin
        # sudo: whether there is a secret may be known, the secret not; a search caches neither.
        with_secret = stored.sudo().search([
            ("id", "in", stored.ids),
            ("webhook_secret", "!=", False),
        ])
        for queue in self:
            queue.has_webhook_secret = queue._origin.id in with_secret.ids
            queue.new_webhook_secret = False

    def _inverse_new_webhook_secret(self):
        """Keep the secret that was typed in; an empty one changes nothing.

        :raise UserError: for a secret that no signature can be made with
        """
        for queue in self.filtered("new_webhook_secret"):
            secret = queue.new_webhook_secret.strip()
            if not self._is_webhook_secret(secret):
                raise UserError(
                    self.env._(
                        "This is no webhook secret. Copy all of it from the provider: it is made"
                        " of letters, digits, + and /, and may begin with whsec_."
                    )
                )
            # sudo: the field is closed to all; who may write this one was checked.
            queue.sudo().webhook_secret = secret
            queue._message_log(body=self.env._("The webhook secret was changed."))

    @api.model
    def _is_webhook_secret(self, text):
        try:
            return bool(base64.b64decode(text.removeprefix("whsec_"), validate=True))
        except (binascii.Error, ValueError):
            return False

    # === ACTION METHODS === #

    def action_remove_webhook_secret(self):
        """Forget the secret: webhooks of the provider are refused from now on."""
        self.check_access("write")
        for queue in self.filtered("has_webhook_secret"):
            # sudo: the field is closed to all; the right to write was checked.
            queue.sudo().webhook_secret = False
            queue._message_log(body=self.env._("The webhook secret was removed."))

    def action_bulk_retry_failed(self):
        """Retry what failed in these queues, some at a time, and say what came of it."""
        return self._bulk_action_on("failed", "retry")

    def action_bulk_clear(self):
        """Cancel what waits in these queues, some at a time, and say what came of it."""
        return self._bulk_action_on("queued", "cancel")

    def _bulk_action_on(self, state, what):
        """Return the action on those of the jobs in a state that the caller may see."""
        self.check_access("write")
        domain = fields.Domain("state", "=", state)
        jobs = self._search_jobs(domain)
        # sudo: how many there are besides, and nothing else of them.
        left = self.sudo()._count_jobs(domain) - len(jobs)
        return jobs._bulk_action(what, left=left)
