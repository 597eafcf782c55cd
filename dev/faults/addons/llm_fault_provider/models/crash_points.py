from odoo import api, models

from odoo.addons.llm_generate_job.engine.sql import CLAIM_POLLS

from .. import crash_points


class LlmGenerationEngine(models.AbstractModel):
    _inherit = "llm.generation.engine"

    @api.model
    def _crash(self, step, job_ids, *, polling=False):
        """Die if the crash is to be at this step of one of these jobs.

        Nothing is read where no crash is ordered: the database may be what fails.
        """
        if crash_points.has_fault("armed"):
            for job in self.env["llm.generation.job"].sudo().browse(job_ids).exists():
                crash_points.crash(step, job.provider_id.name, polling=polling)


class LlmGenerationClaim(models.AbstractModel):
    _inherit = "llm.generation.engine"

    def _claim_from(self, *args):
        claims, wait = super()._claim_from(*args)
        self._crash("before the commit of the claim", [claim.job_id for claim in claims])
        return claims, wait

    def _claim_here(self, *args):
        claims, wait = super()._claim_here(*args)
        self._crash("after the claim", [claim.job_id for claim in claims])
        return claims, wait


class LlmGenerationUpkeep(models.AbstractModel):
    _inherit = "llm.generation.engine"

    @api.model
    def _change(self, statement, params=None, **options):
        rows = super()._change(statement, params, **options)
        if statement is CLAIM_POLLS:
            ids = [row[0] for row in rows]
            self._crash("before the commit of the claim", ids, polling=True)
        return rows

    @api.model
    def _claim_polls(self, limit, **options):
        claims = super()._claim_polls(limit, **options)
        self._crash("after the claim", [claim.job_id for claim in claims], polling=True)
        return claims


class LlmGenerationVerdict(models.AbstractModel):
    _inherit = "llm.generation.engine"

    @api.model
    def _apply(self, pairs, *args):
        counted = super()._apply(pairs, *args)
        self._crash_in_pairs("in the finish", pairs)
        return counted

    @api.model
    def _crash_in_pairs(self, step, pairs):
        if crash_points.has_fault("armed"):
            for claim, answer in pairs:
                job = self.env["llm.generation.job"].sudo().browse(claim.job_id)
                polling = bool(job.external_job_id and not answer.external_job_id)
                self._crash(step, job.ids, polling=polling)


class LlmGenerationConclusion(models.AbstractModel):
    _inherit = "llm.generation.engine"

    def _complete(self, pairs, **options):
        self._crash_in_pairs("before the finish", pairs)
        result = super()._complete(pairs, **options)
        self._crash_in_pairs("after the finish", pairs)
        return result


class LlmGenerationCall(models.AbstractModel):
    _inherit = "llm.generation.engine"

    @api.model
    def _submit(self, job, job_context, recorder):
        self._crash("before the call", [job.id])
        result = super()._submit(job, job_context, recorder)
        self._crash("after the call", [job.id])
        return result

    @api.model
    def _ask(self, job, job_context, recorder):
        self._crash("before the call", [job.id], polling=True)
        result = super()._ask(job, job_context, recorder)
        self._crash("after the call", [job.id], polling=True)
        return result
