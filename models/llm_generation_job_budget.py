from odoo import api, fields, models


class LlmGenerationJob(models.Model):
    """What the owner of a job has left of the day, where a refusal would come."""

    _inherit = "llm.generation.job"

    budget_left = fields.Char(compute="_compute_budget_left")

    @api.depends("user_id", "company_id", "provider_id", "state")
    def _compute_budget_left(self):
        Budget = self.env["llm.generation.budget"]
        for (user, company, provider, state), jobs in self.grouped(
            lambda job: (job.user_id, job.company_id, job.provider_id, job.state)
        ).items():
            asks = state in {"draft", "failed"}
            # sudo: whose budget it is does not depend on what the user may read.
            payer = provider.sudo().company_id or company
            jobs.budget_left = asks and Budget._left_sentence(user, payer)
