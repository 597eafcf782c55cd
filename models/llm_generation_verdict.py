import logging
from datetime import timedelta

from odoo import api, fields, models

from ..const import ERROR_MESSAGE_LIMIT
from ..runner import backoff
from ..runner import statements as sql

_logger = logging.getLogger(__name__)

#: Seconds until an external job is asked about for the first time, and at most.
FIRST_POLL, LAST_POLL = 1.0, 30.0


class LlmGenerationVerdict(models.AbstractModel):
    """Applies what a provider answered, once, and only for the attempt that still counts."""

    _name = "llm.generation.verdict"
    _description = "LLM Generation Verdict"
    _inherit = ["llm.generation.engine"]

    @api.model
    def _fence(self, claim):
        """Return the job of a claim, locked, if the claim's attempt may still end it.

        An attempt that was rescued, cancelled or timed out meanwhile gets an empty recordset:
        it has been overtaken, and what it brings is thrown away.
        """
        locked = self._select(sql.FENCE, [claim.job_id, claim.token])
        jobs = self.env["llm.generation.job"].sudo()
        if not locked:
            _logger.info("Job %s: attempt %s was overtaken", claim.job_id, claim.token)
            return jobs
        job = jobs.browse(claim.job_id)
        job.invalidate_recordset()
        return job

    @api.model
    def _apply(self, claim, answer):
        """Apply an answer within the current transaction.

        :return: whether the attempt still counted
        """
        job = self._fence(claim)
        if not job:
            return False
        self._settle_tokens(job, answer)
        values = self._values_of(job, answer)
        if answer.state in {"queued", "running"}:
            self._keep_running(job, answer, values)
        elif answer.state == "completed":
            job._set_state(
                "completed", **values, progress=100.0, error_type=False, error_message=False
            )
            self._provider_works(job.provider_id)
        elif answer.state == "cancelled":
            job._set_state("cancelled", **values, error_type="cancelled")
        else:
            self._apply_failure(job, answer, values)
        _logger.info("Job %s: attempt %s is %s", job.id, claim.token, answer)
        return True

    @api.model
    def _values_of(self, job, answer):
        values = {
            "provider_data": answer.provider_data,
            "output_message_id": answer.output_message_id,
            "external_job_id": answer.external_job_id,
            "progress": answer.progress,
            "prompt_tokens": answer.tokens("prompt"),
            "completion_tokens": answer.tokens("completion"),
            "error_message": (answer.error_message or "")[:ERROR_MESSAGE_LIMIT],
        }
        if "progress" in values and answer.state == "completed":
            del values["progress"], values["error_message"]
        return {name: value for name, value in values.items() if value}

    @api.model
    def _keep_running(self, job, answer, values):
        """Note where an external job is, and when to ask again."""
        polls = 0 if answer.external_job_id else job.poll_count + 1
        wait = answer.poll_after or min(LAST_POLL, FIRST_POLL * 1.5**polls)
        now = fields.Datetime.now()
        values |= {"next_poll_at": now + timedelta(seconds=wait), "poll_count": polls}
        values.pop("error_message", None)
        if answer.expires_in:
            values["result_expires_at"] = now + timedelta(seconds=answer.expires_in)
        job.write(values)
        if answer.external_job_id:
            # From here on the provider runs it, and any process may ask about it.
            attempt = self.env["llm.generation.attempt"].browse(job.attempt_token)
            attempt.write({"runner_id": False, "external_job_id": answer.external_job_id})
        self._notify(job)

    @api.model
    def _apply_failure(self, job, answer, values):
        queue = self.env["llm.generation.queue"]._get_or_create_queue(job.provider_id)
        decision = self._decide(job, queue, answer.error_type, answer.retry_after)
        values = {"error_message": False, **values, "error_type": answer.error_type}
        if decision.pause:
            self._pause(queue, decision.pause, answer.error_type)
        if decision.action == "give_back":
            self._give_back(job, max(decision.delay, decision.pause), **values)
            return
        job._set_state("failed", **values, **self._retry_values(decision))

    @api.model
    def _decide(self, job, queue, error_type, retry_after=None):
        return backoff.decide(
            error_type,
            retry_count=job.retry_count,
            max_retries=job.max_retries,
            free_waits=max(0, job.attempt_count - 1 - job.retry_count),
            retry_after=retry_after,
            base_delay=queue.retry_delay_minutes * 60,
            auto_retry=queue.auto_retry_failed,
        )

    @api.model
    def _retry_values(self, decision):
        if decision.action != "retry":
            return {}
        return {"retry_at": fields.Datetime.now() + timedelta(seconds=decision.delay)}

    @api.model
    def _give_back(self, job, delay=0.0, **values):
        """Let a running job wait again, in its old place, for at least `delay` seconds."""
        until = fields.Datetime.now() + timedelta(seconds=delay) if delay else False
        job._set_state(
            "queued", external_job_id=False, scheduled_at=until, is_delayed=bool(until), **values
        )

    @api.model
    def _pause(self, queue, seconds, error_type):
        """Start nothing of the queue for a while; a longer pause is never shortened."""
        until = fields.Datetime.now() + timedelta(seconds=seconds)
        values = {}
        if not queue.paused_until or queue.paused_until < until:
            values["paused_until"] = until
        if error_type in backoff.REFUSALS and queue.refused_by != error_type:
            values["refused_by"] = error_type
            queue._tell_managers_refused(error_type)
        if values:
            queue.sudo().write(values)

    @api.model
    def _provider_works(self, provider):
        refused = (
            self
            .env["llm.generation.queue"]
            .sudo()
            .search([
                ("provider_id", "=", provider.id),
                ("refused_by", "!=", False),
            ])
        )
        refused.write({"refused_by": False})

    @api.model
    def _settle_tokens(self, job, answer):
        used = answer.tokens("prompt") + answer.tokens("completion")
        if used and job.estimated_tokens:
            difference = job.estimated_tokens - used
            self._change(
                sql.SETTLE_BUCKET, {"difference": difference, "provider": job.provider_id.id}
            )
