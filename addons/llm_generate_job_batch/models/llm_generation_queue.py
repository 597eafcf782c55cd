from odoo import api, models


class LlmGenerationQueue(models.Model):
    """The scheduled action of retries also finds the batches whose end nobody noted."""

    _inherit = "llm.generation.queue"

    @api.model
    def _auto_retry_failed_jobs(self):
        self.env["llm.generation.engine"]._tell_done()
        return super()._auto_retry_failed_jobs()
