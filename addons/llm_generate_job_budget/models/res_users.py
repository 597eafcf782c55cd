from odoo import api, fields, models
from odoo.fields import Domain

USER_BUDGETS = ("llm_daily_jobs", "llm_daily_tokens", "llm_own_budget")


class ResUsers(models.Model):
    """What a user may spend on generation in a day."""

    _inherit = "res.users"

    llm_own_budget = fields.Boolean(
        "Own Budget",
        copy=False,
        groups="llm.group_llm_manager",
        help="In place of the one that the company gives to each of its users.",
    )
    llm_daily_jobs = fields.Integer(
        "Jobs a Day", copy=False, groups="llm.group_llm_manager", help="0 means no limit."
    )
    llm_daily_tokens = fields.Integer(
        "Tokens a Day", copy=False, groups="llm.group_llm_manager", help="0 means no limit."
    )
    llm_spent_today = fields.Char(
        "Spent Today", compute="_compute_llm_spent_today", groups="llm.group_llm_manager"
    )

    _llm_budgets_not_negative = models.Constraint(
        "CHECK(LEAST(llm_daily_jobs, llm_daily_tokens) >= 0)",
        "A budget cannot be negative. Use 0 for no limit.",
    )

    @api.model_create_multi
    def create(self, vals_list):
        users = super().create(vals_list)
        if any(vals.keys() & set(USER_BUDGETS) for vals in vals_list):
            self.env["llm.generation.engine"]._forget_after_commit()
        return users

    def write(self, vals):
        result = super().write(vals)
        if vals.keys() & set(USER_BUDGETS):
            self.env["llm.generation.engine"]._forget_after_commit()
        return result

    # === COMPUTE METHODS === #

    @api.depends(*USER_BUDGETS)
    def _compute_llm_spent_today(self):
        # sudo: who may read this field of a user may see what that user spends.
        Budget = self.env["llm.generation.engine"].sudo()
        for user in self:
            user.llm_spent_today = Budget._spent_sentence("user", user, user._daily_budget())

    # === BUSINESS METHODS === #

    @api.model
    def _budget_domain(self):
        """Return the domain of the users that have a budget of their own."""
        return Domain("llm_own_budget", "=", True) & (
            Domain("llm_daily_jobs", ">", 0) | Domain("llm_daily_tokens", ">", 0)
        )

    def _daily_budget(self):
        """Return the jobs and the tokens that the user may spend in a day, 0 for no limit.

        Whoever has no budget of their own has one for all their companies together, the smallest
        that any of these gives to its users: nobody has more by changing over to another one.
        """
        self.ensure_one()
        user = self.sudo()  # sudo: users may not read it, and are bound by it all the same
        if user.llm_own_budget:
            return user.llm_daily_jobs, user.llm_daily_tokens
        return tuple(
            min(filter(None, user.company_ids.mapped(name)), default=0)
            for name in ("llm_user_daily_jobs", "llm_user_daily_tokens")
        )
