import time

from odoo import api, models

#: 600 characters, about a hundred words.
ANSWER = "A chair of oak, oiled by hand, with a seat of woven cord. " * 10 + "It lasts for life."
USAGE = {"prompt_tokens": 80, "completion_tokens": 140}


class LlmProvider(models.Model):
    _inherit = "llm.provider"

    @api.model
    def _get_available_services(self):
        return [*super()._get_available_services(), ("benchscale", "Benchmark: Scale")]

    def benchscale_create_generation_job(self, job):
        """Answer after a while, or take the job as one of our own."""
        inputs = job.generation_inputs or {}
        if inputs.get("is_external"):
            return f"external-{job.id}"
        time.sleep(inputs.get("seconds", 0.0))
        return self._benchscale_answer(job)

    def benchscale_check_generation_job_status(self, job):
        """Say that a job has ended: it is asked about once."""
        return self._benchscale_answer(job)

    def _benchscale_answer(self, job):
        message = job.thread_id.message_post(body=ANSWER, llm_role="assistant", author_id=False)
        return {"state": "completed", "output_message_id": message.id, "usage": USAGE}
