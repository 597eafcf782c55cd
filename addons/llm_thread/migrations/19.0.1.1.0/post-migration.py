"""A conversation with a shared provider was everybody's: it belongs to its owner's company."""

OWN = """
    UPDATE llm_thread t SET company_id = u.company_id
    FROM res_users u WHERE u.id = t.user_id AND t.company_id IS NULL
"""

#: The rule is not updated with the module, as somebody may have changed it.
STRICT = """
    UPDATE ir_rule r
    SET domain_force = replace(domain_force, 'company_ids + [False]', 'company_ids')
    FROM ir_model_data d
    WHERE d.module = 'llm_thread' AND d.name = 'llm_thread_rule_company' AND d.model = 'ir.rule'
        AND d.res_id = r.id
"""


def migrate(cr, version):
    """Give conversations the company of their owner, and have the rule ask for one."""
    if version:
        cr.execute(OWN)
        cr.execute(STRICT)
