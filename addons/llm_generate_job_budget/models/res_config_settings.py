from odoo import api, fields, models


class ResConfigSettings(models.TransientModel):
    """What the company, and each of its users, may spend on generation in a day."""

    _inherit = "res.config.settings"

    llm_daily_jobs = fields.Integer(related="company_id.llm_daily_jobs", readonly=False)
    llm_daily_tokens = fields.Integer(related="company_id.llm_daily_tokens", readonly=False)
    llm_user_daily_jobs = fields.Integer(related="company_id.llm_user_daily_jobs", readonly=False)
    llm_user_daily_tokens = fields.Integer(
        related="company_id.llm_user_daily_tokens", readonly=False
    )
    llm_spent_today = fields.Char("Spent Today", compute="_compute_llm_spent_today")

    @api.depends("company_id")
    def _compute_llm_spent_today(self):
        # sudo: who may open the settings may see what their company spends.
        Budget = self.env["llm.generation.engine"].sudo()
        for settings in self:
            company = settings.company_id.sudo()
            limit = (company.llm_daily_jobs, company.llm_daily_tokens)
            settings.llm_spent_today = Budget._spent_sentence("company", company, limit)
