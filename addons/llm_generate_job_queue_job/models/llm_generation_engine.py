from odoo import api, models

from .. import statements as sql


class LlmGenerationEngine(models.AbstractModel):
    """Withdraws from queue_job what is no longer to be executed."""

    _inherit = "llm.generation.engine"

    @api.model
    def _moved(self, jobs, target, was_running, queue_ids=()):
        if was_running and target != "completed":
            # sudo: which attempt runs is the engine's business.
            tokens = was_running.sudo().mapped("attempt_token")
            reason = self.env._("The generation no longer waits for it.")
            params = {"tokens": tokens, "reason": reason}
            self._change(sql.WITHDRAW, params, touches=["queue.job"])
        return super()._moved(jobs, target, was_running, queue_ids)
