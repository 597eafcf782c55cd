from odoo import api, fields, models
from odoo.exceptions import ConcurrencyError
from odoo.fields import Domain

from ..const import ACTIVE_STATES


class LlmGenerationFarewell(models.Model):
    """A job at a provider whose record goes with its thread: the provider has still to be told.

    Written by the engine alone; what is told is forgotten.
    """

    _name = "llm.generation.farewell"
    _description = "LLM Generation Farewell"
    _log_access = False

    provider_id = fields.Many2one("llm.provider", required=True, index=True, ondelete="cascade")
    model_id = fields.Many2one("llm.model", ondelete="set null", index="btree_not_null")
    job_number = fields.Integer(required=True, help="The id that the job had.")
    external_job_id = fields.Char(required=True)
    provider_data = fields.Json()

    @api.model
    def _take_leave(self, threads):
        """Give up the jobs of threads that are about to be deleted: nobody would read the answers.

        What runs is stopped in a transaction of its own. Until that is committed its answer grows
        in the thread, and what changes after our snapshot we cannot delete.

        :raise ConcurrencyError: when something ran; Odoo then repeats the request
        """
        engine = self.env["llm.generation.engine"]
        # sudo: who may delete the thread may end all of its jobs.
        jobs = self.env["llm.generation.job"].sudo()
        active = jobs.search(
            Domain("thread_id", "in", threads.ids) & Domain("state", "in", ACTIVE_STATES)
        )
        stopped = False
        if "running" in active.mapped("state"):
            with engine._transaction() as own:
                stopped = own.env[self._name]._stop(active.ids)
        else:
            active._set_state("cancelled", is_delayed=False)
        if stopped and not engine._is_inline():
            raise ConcurrencyError(self.env._("The answers were just stopped. Try again."))

    @api.model
    def _stop(self, job_ids):
        jobs = self.env["llm.generation.job"].browse(job_ids).exists()
        stopped = jobs._set_state("cancelled", is_delayed=False)
        untold = stopped.filtered(lambda job: job.must_cancel and job.external_job_id)
        self.create([
            {
                "provider_id": job.provider_id.id,
                "model_id": job.model_id.id,
                "job_number": job.id,
                "external_job_id": job.external_job_id,
                "provider_data": job.provider_data,
            }
            for job in untold
        ])
        untold.must_cancel = False  # it is told by what was just made
        return bool(stopped)
