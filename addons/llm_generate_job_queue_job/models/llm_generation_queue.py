import re

from odoo import api, fields, models, tools

from odoo.addons.queue_job.utils import must_run_without_delay

#: What executes the jobs of a queue, where nobody has chosen.
RUNNER = "runner"


class LlmGenerationQueue(models.Model):
    """Whether queue_job executes a provider's jobs, and in which channel."""

    _inherit = "llm.generation.queue"

    executor = fields.Selection(
        [(RUNNER, "Threads of the Odoo servers"), ("queue_job", "Workers of queue_job")],
        "Jobs Run In",
        default=lambda self: self._default_executor(),
        required=True,
        help="Workers of queue_job need its job runner. A change counts at once: what waits moves,"
        " what runs ends where it is.",
    )
    queue_job_channel = fields.Char(
        "Channel",
        compute="_compute_queue_job_channel",
        help="The channel of queue_job in which the provider's jobs run. Its capacity is set in the"
        " configuration of queue_job; the limits of the queue hold in any case.",
    )
    queue_job_stalled_at = fields.Datetime(
        readonly=True, copy=False, help="Since when queue_job lets jobs wait too long."
    )

    @api.model
    def _default_executor(self):
        chosen = self._default_setting("executor", RUNNER)
        return chosen if chosen in self._fields["executor"].get_values(self.env) else RUNNER

    @api.depends("provider_id.service")
    def _compute_queue_job_channel(self):
        for queue in self:
            # sudo: who may see a queue may see where it runs.
            provider = queue.provider_id.sudo()
            service = re.sub(r"\W+", "_", provider.service or "none", flags=re.ASCII)
            queue.queue_job_channel = f"root.llm.{service}_{provider.id}"

    @api.model_create_multi
    def create(self, vals_list):
        queues = super().create(vals_list)
        self.env["llm.generation.engine"]._forget_after_commit()
        return queues

    def write(self, vals):
        result = super().write(vals)
        if "executor" in vals:
            self.env["llm.generation.engine"]._forget_after_commit()
            self.env["llm.generation.engine"]._wake()
        return result

    def unlink(self):
        self.env["llm.generation.engine"]._forget_after_commit()
        return super().unlink()

    @api.model
    def _delegated(self):
        """Return the ids of the queues whose jobs queue_job executes."""
        # Without delay the runner itself would execute them, one after the other.
        return () if must_run_without_delay(self.env) else self._chosen_for_queue_job()

    @api.model
    @tools.ormcache()
    def _chosen_for_queue_job(self):
        # sudo: a runner works for everybody.
        return tuple(self.sudo().search([("executor", "=", "queue_job")]).ids)

    @api.model
    def _engine_fields(self):
        return super()._engine_fields() | {"queue_job_stalled_at"}

    @api.depends("queue_job_stalled_at")
    def _compute_statistics(self):
        return super()._compute_statistics()
