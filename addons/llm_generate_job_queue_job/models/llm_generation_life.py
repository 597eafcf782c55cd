from odoo import api, models

from ..executor import QueueJobs


class LlmGenerationLife(models.AbstractModel):
    """What becomes of jobs that queue_job has, and of those it had."""

    _inherit = "llm.generation.engine"

    @api.model
    def _executor(self, threads):
        threads = super()._executor(threads)
        if not self.env["llm.generation.queue"]._delegated():
            return threads
        return QueueJobs(self.env["llm.generation.delegation"], threads)

    @api.model
    def _rescue_job(self, job, external):
        attempt = self.env["llm.generation.attempt"].browse(job.attempt_token).exists()
        if external or not attempt.queue_job_uuid or attempt.queue_job_begun_at:
            super()._rescue_job(job, external)
            return
        self.env["llm.generation.delegation"]._settle_unbegun(job, attempt)

    @api.model
    def _death_of(self, attempt):
        if not attempt.queue_job_uuid:
            return super()._death_of(attempt)
        return self.env._(
            "The worker of queue_job that ran the job died (record %s).", attempt.queue_job_uuid
        )
