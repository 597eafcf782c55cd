from odoo import api, models


class LlmGenerationFigures(models.AbstractModel):
    """Says of a queue that queue_job begins none of its jobs."""

    _inherit = "llm.generation.engine"

    @api.model
    def _evaluate_health(self, queue, figures):
        health, reason = super()._evaluate_health(queue, figures)
        if health == "disabled" or queue.refused_by or not queue.queue_job_stalled_at:
            return health, reason
        if queue.id not in self.env["llm.generation.queue"]._delegated():
            return health, reason
        return "critical", self.env._(
            "queue_job lets jobs wait: does its job runner run, and has the channel %s the"
            " capacity that the queue's limit needs?",
            queue.queue_job_channel,
        )
