import contextlib

from odoo import models


class LlmProvider(models.Model):
    """Takes of the budgets what is answered without a job."""

    _inherit = "llm.provider"

    @contextlib.contextmanager
    def _direct_answer(self, thread=None, estimate=0):
        Reservation = self.env["llm.generation.engine"]
        user = self.env.user
        # sudo: who spends, and who pays, does not depend on what the user may read.
        provider, thread = self.sudo(), thread and thread.sudo()
        if user._is_superuser() and thread:
            user = thread.user_id  # OdooBot works for them, as in a job
        company = provider.company_id or (thread and thread.company_id) or user.company_id
        with super()._direct_answer(thread, estimate) as recorder:
            companies = Reservation._binding_companies(user, provider, company)
            spending = Reservation._reserve_direct(user, company, companies, estimate)
            try:
                yield recorder
            finally:
                Reservation._settle_direct(spending, recorder.cost)
