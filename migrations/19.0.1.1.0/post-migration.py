"""A job without a company was everybody's: it belongs to the company of its user."""

OWN_JOBS = """
    UPDATE llm_generation_job j SET company_id = u.company_id
    FROM res_users u WHERE u.id = j.user_id AND j.company_id IS NULL
"""
OWN_GROUPS = """
    UPDATE llm_generation_group g SET company_id = u.company_id
    FROM res_users u WHERE u.id = g.user_id AND g.company_id IS NULL
"""

#: Record rules that are not updated with the module, as somebody may have changed them.
RULES = (
    "llm_generation_job_rule_company",
    "llm_generation_report_rule_company",
    "llm_generation_attempt_rule_company",
    "llm_generation_group_rule_company",
)
STRICT = """
    UPDATE ir_rule r
    SET domain_force = replace(domain_force, 'company_ids + [False]', 'company_ids')
    FROM ir_model_data d
    WHERE d.module = 'llm_generate_job' AND d.name = ANY(%s) AND d.model = 'ir.rule'
        AND d.res_id = r.id
"""


def migrate(cr, version):
    """Give jobs and groups the company of their user, and have the rules ask for one."""
    if not version:
        return
    cr.execute(OWN_JOBS)
    cr.execute(OWN_GROUPS)
    cr.execute(STRICT, [list(RULES)])
