from odoo import models

from odoo.addons.llm_generate_job.protocol.answer import Claim


class LlmGenerationJob(models.Model):
    """A job that queue_job executes."""

    _inherit = "llm.generation.job"

    def _run_claimed(self, token, provider_id=None):
        """Run a claimed job; what a record of queue_job executes.

        :param int token: the attempt that entitles to it
        :param int provider_id: unused; records of queue_job from before 19.0.1.1 bring it
        :return: what became of it, for people
        :raise FailedJobError: when the attempt could not be begun
        """
        self.ensure_one()
        # sudo: how long an answer may take, whoever may see the queue.
        queues = self.env["llm.generation.queue"].sudo()
        provider = self.exists().provider_id
        timeout = queues.search([("provider_id", "=", provider.id)]).job_timeout
        claim = Claim(self.id, token, timeout=timeout or None, provider_id=provider.id)
        return self.env["llm.generation.delegation"]._execute_claimed(claim)
