from odoo import api, fields, models

from odoo.addons.llm_generate_job.const import FINAL_STATES


class LlmGenerationJob(models.Model):
    """Jobs take of the budgets when they are queued, and are settled at their end."""

    _inherit = "llm.generation.job"

    budget_left = fields.Char(compute="_compute_budget_left")

    @api.depends_context("uid", "su")
    @api.depends("user_id", "company_id", "provider_id", "state")
    def _compute_budget_left(self):
        Budget = self.env["llm.generation.engine"]
        for (user, company, provider, state), jobs in self.grouped(
            lambda job: (job.user_id, job.company_id, job.provider_id, job.state)
        ).items():
            asks = state in {"draft", "failed"}
            # sudo: whose budget it is does not depend on what the user may read.
            payer = provider.sudo().company_id or company
            asks = asks and self._is_told_budget(user, payer)
            companies = Budget._binding_companies(user, provider, payer)
            jobs.budget_left = asks and Budget._left_sentence(user, companies)

    def _is_told_budget(self, user, company):
        """Whether the current user is told what is left to a user: oneself, or a manager."""
        me = self.env.user
        is_manager = company in me.company_ids and me.has_group("llm.group_llm_manager")
        return self.env.su or user == me or is_manager

    def _before_enqueue(self, sources):
        result = super()._before_enqueue(sources)
        self.env["llm.generation.engine"]._reserve(self, sources)
        return result

    def _after_move(self, target, was_running):
        result = super()._after_move(target, was_running)
        if target in FINAL_STATES:
            self.env["llm.generation.engine"]._settle(self)
        return result

    def _may_retry(self, *, is_due=False):
        jobs = super()._may_retry(is_due=is_due)
        reservation = self.env["llm.generation.engine"]
        return reservation._retriable(jobs) if is_due else reservation._affordable(jobs)

    def _retry_refusal(self):
        return self.env._("the budget of the day is used up")
