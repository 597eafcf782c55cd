"""A job without a company was everybody's: it belongs to the company of its user."""

from odoo.tools import sql

OWN_JOBS = """
    UPDATE llm_generation_job j SET company_id = u.company_id
    FROM res_users u WHERE u.id = j.user_id AND j.company_id IS NULL
"""
OWN_BATCHES = """
    UPDATE llm_generation_batch b SET company_id = u.company_id
    FROM res_users u WHERE u.id = b.user_id AND b.company_id IS NULL
"""

#: Record rules that are not updated with the module, as somebody may have changed them.
RULES = (
    "llm_generation_job_rule_company",
    "llm_generation_report_rule_company",
    "llm_generation_attempt_rule_company",
    "llm_generation_batch_rule_company",  # of the addon that it was handed over to
)
STRICT = """
    UPDATE ir_rule r
    SET domain_force = replace(domain_force, 'company_ids + [False]', 'company_ids')
    FROM ir_model_data d
    WHERE d.module LIKE 'llm_generate_job%%' AND d.name = ANY(%s) AND d.model = 'ir.rule'
        AND d.res_id = r.id
"""


def migrate(cr, version):
    """Give jobs and batches the company of their user, and have the rules ask for one."""
    if not version:
        return
    cr.execute(OWN_JOBS)
    if sql.table_exists(cr, "llm_generation_batch"):
        cr.execute(OWN_BATCHES)
    cr.execute(STRICT, [list(RULES)])
