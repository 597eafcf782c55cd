from odoo import api, models

from .. import statements as sql
from ..executor import QueueJobs


class LlmGenerationEngine(models.AbstractModel):
    """Gives jobs to queue_job, withdraws them, and settles what became of them there."""

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

    @api.model
    def _hold_slots(self, jobs):
        # What queue_job has not begun has called nobody.
        Attempt = self.env["llm.generation.attempt"].sudo()  # sudo: as above
        attempts = Attempt.browse(jobs.sudo().mapped("attempt_token")).exists()
        unbegun = attempts.filtered(lambda a: a.queue_job_uuid and not a.queue_job_begun_at)
        return super()._hold_slots(jobs.filtered(lambda job: job.id not in unbegun.job_id.ids))

    # === WHAT QUEUE_JOB HAS, AND HAD === #

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
        delegation = self.env["llm.generation.delegation"]
        delegation._speaking_to(job.user_id)._settle_unbegun(job, attempt)

    @api.model
    def _death_of(self, attempt):
        if not attempt.queue_job_uuid:
            return super()._death_of(attempt)
        return self.env._(
            "The worker of queue_job that ran the job died (record %s).", attempt.queue_job_uuid
        )

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
