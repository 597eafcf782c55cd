from datetime import timedelta

from odoo import api, fields, models

from ..const import SPENDING_DAYS

#: Rows removed at a time.
BATCH = 10_000
#: No number in a column is larger.
LARGEST = 2**31 - 1


class LlmGenerationSpending(models.Model):
    """What one queueing of a job, or a direct answer, costs: reserved first, settled in the end.

    Apart from the jobs, so that what was spent is not forgotten when a thread is deleted.
    """

    _name = "llm.generation.spending"
    _description = "LLM Generation Spending"
    _log_access = False

    job_id = fields.Integer(help="None for an answer that no job asked for.")
    day = fields.Date(required=True)
    user_id = fields.Many2one("res.users", ondelete="cascade")
    company_id = fields.Many2one("res.company", ondelete="cascade")
    jobs = fields.Integer(required=True)
    tokens = fields.Integer(required=True)
    attempts = fields.Integer(required=True, help="Attempts of the job before it was queued.")
    is_open = fields.Boolean(help="It waits or runs: its cost is an estimate.")
    xid = fields.Char(required=True, help="The database transaction that queued the job.")

    _user_idx = models.Index("(user_id, day) INCLUDE (jobs, tokens)")
    _company_idx = models.Index("(company_id, day) INCLUDE (jobs, tokens)")
    _job_idx = models.Index("(job_id) WHERE job_id IS NOT NULL")

    def _close(self, cost):
        """Note what a direct answer cost.

        :param dict cost: None for one that was not asked for in the end; empty where nobody can
            know: the estimate stays
        """
        if cost is None:
            self.unlink()
        elif cost:
            self.write({"tokens": min(LARGEST, sum(cost.values())), "is_open": False})

    @api.autovacuum
    def _gc_spending(self):
        oldest = fields.Datetime.now().date() - timedelta(days=SPENDING_DAYS)
        old = self.search([("day", "<", oldest)], limit=BATCH)
        old.unlink()
        return len(old), len(old) == BATCH
