from odoo import api, fields, models
from odoo.fields import Domain

#: What changes whether anybody has a budget.
COMPANY_BUDGETS = (
    "llm_daily_jobs",
    "llm_daily_tokens",
    "llm_user_daily_jobs",
    "llm_user_daily_tokens",
)


class ResCompany(models.Model):
    """What a company, and each of its users, may spend on generation in a day."""

    _inherit = "res.company"

    llm_daily_jobs = fields.Integer(
        "Jobs a Day", groups="llm.group_llm_manager", help="Of the whole company. 0 means no limit."
    )
    llm_daily_tokens = fields.Integer(
        "Tokens a Day",
        groups="llm.group_llm_manager",
        help="Of the whole company. 0 means no limit.",
    )
    llm_user_daily_jobs = fields.Integer(
        "Jobs a Day and User",
        groups="llm.group_llm_manager",
        help="A user of several companies has the smallest that any of them gives."
        " 0 means no limit.",
    )
    llm_user_daily_tokens = fields.Integer(
        "Tokens a Day and User",
        groups="llm.group_llm_manager",
        help="A user of several companies has the smallest that any of them gives."
        " 0 means no limit.",
    )

    _llm_budgets_not_negative = models.Constraint(
        "CHECK(LEAST(llm_daily_jobs, llm_daily_tokens, llm_user_daily_jobs, llm_user_daily_tokens)"
        " >= 0)",
        "A budget cannot be negative. Use 0 for no limit.",
    )

    @api.model_create_multi
    def create(self, vals_list):
        companies = super().create(vals_list)
        if any(vals.keys() & set(COMPANY_BUDGETS) for vals in vals_list):
            self.env["llm.generation.engine"]._forget_after_commit()
        return companies

    def write(self, vals):
        result = super().write(vals)
        if vals.keys() & set(COMPANY_BUDGETS):
            self.env["llm.generation.engine"]._forget_after_commit()
        return result

    @api.model
    def _budget_domain(self):
        """Return the domain of the companies that have a budget, or whose users have one."""
        return Domain.OR([(name, ">", 0)] for name in COMPANY_BUDGETS)
