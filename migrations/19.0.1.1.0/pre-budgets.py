"""Budgets have an addon of their own, which gets their data: what is allowed, and what was spent.

It is installed in the same run: nobody spends without a budget because of the upgrade.
"""

import logging

from odoo.modules.module import Manifest
from odoo.tools import SQL, sql

_logger = logging.getLogger(__name__)

ROOT, ADDON = "llm_generate_job", "llm_generate_job_budget"
TABLE = "llm_generation_spending"

#: Names of what Odoo notes of the module (`ir_model_data`) that goes over.
MOVED = r"""(?x)^(
    (model_|field_|access_|constraint_|model_inherit__)?llm_generation_spending_?.*
    | field_llm_generation_job__budget_left
    | field_res_(users|company|config_settings)__llm_
        (own_budget|spent_today|(user_)?daily_(jobs|tokens))
    | constraint_res_(users|company)_llm_budgets_not_negative
    | llm_generation_report_filter_tokens
)$"""
HAND_OVER = """
    UPDATE ir_model_data SET module = %(addon)s WHERE module = %(root)s AND name ~ %(moved)s
"""
HAND_OVER_CONSTRAINTS = """
    UPDATE ir_model_constraint
    SET module = (SELECT id FROM ir_module_module WHERE name = %(addon)s)
    WHERE name ~ '^(llm_generation_spending_|res_(users|company)_llm_budgets_not_negative$)'
      AND module = (SELECT id FROM ir_module_module WHERE name = %(root)s)
"""
INSTALL = """
    UPDATE ir_module_module SET state = 'to install' WHERE name = %s AND state = 'uninstalled'
"""
IS_USED = """
    SELECT EXISTS (
        SELECT FROM res_users
        WHERE llm_own_budget AND GREATEST(llm_daily_jobs, llm_daily_tokens) > 0)
    OR EXISTS (
        SELECT FROM res_company
        WHERE GREATEST(llm_daily_jobs, llm_daily_tokens, llm_user_daily_jobs,
            llm_user_daily_tokens) > 0)
"""


def migrate(cr, version):
    """Hand over what the addon of budgets owns, or remove it where nobody has one and it is away.

    :raise RuntimeError: where somebody has a budget, and there is no addon that keeps it
    """
    if not version or not sql.table_exists(cr, TABLE):
        return
    # Not by its record: Odoo keeps that of an addon which is not there any more.
    if Manifest.for_addon(ADDON, display_warning=False):
        params = {"root": ROOT, "addon": ADDON, "moved": MOVED}
        cr.execute(HAND_OVER, params)
        cr.execute(HAND_OVER_CONSTRAINTS, params)
        cr.execute(INSTALL, [ADDON])
        _logger.info("Budgets belong to %s now", ADDON)
        return
    cr.execute(IS_USED)
    if cr.fetchone()[0]:
        message = (
            f"Users or companies of this database have budgets. They belong to the addon {ADDON}"
            f" now, which is not on the addons path. Put it there, and upgrade again: it is"
            f" installed by itself, and nothing is lost."
        )
        raise RuntimeError(message)
    cr.execute(SQL("DROP TABLE %s", SQL.identifier(TABLE)))
