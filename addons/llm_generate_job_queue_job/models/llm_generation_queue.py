import re

from odoo import api, fields, models


class LlmGenerationQueue(models.Model):
    """The channel of queue_job in which a provider's jobs run."""

    _inherit = "llm.generation.queue"

    queue_job_channel = fields.Char(
        "Channel",
        compute="_compute_queue_job_channel",
        help="The channel of queue_job in which the provider's jobs run. Its capacity is set in the"
        " configuration of queue_job; the limits of the queue hold in any case.",
    )
    queue_job_stalled_at = fields.Datetime(
        readonly=True, copy=False, help="Since when queue_job lets jobs wait too long."
    )

    @api.depends("provider_id.service")
    def _compute_queue_job_channel(self):
        for queue in self:
            # sudo: who may see a queue may see where it runs.
            provider = queue.provider_id.sudo()
            service = re.sub(r"\W+", "_", provider.service or "none", flags=re.ASCII)
            queue.queue_job_channel = f"root.llm.{service}_{provider.id}"

    @api.model
    def _engine_fields(self):
        return super()._engine_fields() | {"queue_job_stalled_at"}

    @api.depends("queue_job_stalled_at")
    def _compute_figures(self):
        return super()._compute_figures()
