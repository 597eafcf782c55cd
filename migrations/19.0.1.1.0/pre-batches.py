"""Batches, economy jobs and the server action have an addon of their own, which gets their data.

What was a group is a batch now. The addon is installed in the same run: what code calls is still
there after the upgrade.
"""

import logging

from odoo.modules.module import Manifest
from odoo.tools import SQL, sql

_logger = logging.getLogger(__name__)

ROOT, ADDON = "llm_generate_job", "llm_generate_job_batch"
OLD, NEW = "llm_generation_group", "llm_generation_batch"

#: Names of what Odoo notes of the module (`ir_model_data`) that goes over.
MOVED = r"""(?x)^(
    (model_|field_|selection__|access_|constraint_|model_inherit__)?llm_generation_(group|prompt)_?.*
    | field_llm_generation_job__(group_id|is_economy)
    | constraint_llm_generation_job_(group|economy)_idx
    | field_\w+__llm_(model_id|prompt|target|field_id|economy)
    | selection__\w+__(llm_target__\w+|state__llm_generate)
    | ir_actions_server_view_form
)$"""
HAND_OVER = r"""
    UPDATE ir_model_data SET module = %(addon)s, name = regexp_replace(regexp_replace(replace(
        name, %(old)s, %(new)s), '(job_+)group_i', '\1batch_i'), '__hook_', '__callback_')
    WHERE module = %(root)s AND name ~ %(moved)s
"""
HAND_OVER_CONSTRAINTS = r"""
    UPDATE ir_model_constraint SET name = replace(replace(name, %(old)s, %(new)s),
            'llm_generation_job_group', 'llm_generation_job_batch'),
        module = (SELECT id FROM ir_module_module WHERE name = %(addon)s)
    WHERE name ~ '^llm_generation_(group_|job_group_|job_economy_)'
"""

#: Where Odoo and its users have written the name of the model.
MENTIONS = (
    ("ir_model", "model"),
    ("ir_model_fields", "model"),
    ("ir_model_fields", "relation"),
    ("ir_model_data", "model"),
    ("ir_ui_view", "model"),
    ("ir_act_window", "res_model"),
    ("ir_attachment", "res_model"),
    ("ir_exports", "resource"),
    ("ir_filters", "model_id"),
)
MENTION = """
    UPDATE %(table)s SET %(column)s = 'llm.generation.batch'
    WHERE %(column)s = 'llm.generation.group'
"""
RENAME_FIELDS = (
    """
    UPDATE ir_model_fields SET name = 'batch_id'
    WHERE model = 'llm.generation.job' AND name = 'group_id'
    """,
    """
    UPDATE ir_model_fields SET relation_field = 'batch_id'
    WHERE relation = 'llm.generation.job' AND relation_field = 'group_id'
    """,
    """
    UPDATE ir_model_fields SET name = replace(name, 'hook_', 'callback_')
    WHERE model = 'llm.generation.batch' AND name IN ('hook_model', 'hook_ids', 'hook_method')
    """,
    """
    UPDATE ir_filters SET domain = replace(domain, '''group_id''', '''batch_id'''),
        context = replace(context, '''group_id''', '''batch_id''')
    WHERE model_id = 'llm.generation.job'
    """,
)
COLUMNS = (
    ("llm_generation_job", "group_id", "batch_id"),
    (NEW, "hook_model", "callback_model"),
    (NEW, "hook_ids", "callback_ids"),
    (NEW, "hook_method", "callback_method"),
)
#: Odoo looks for indexes by their names; those of constraints go with them.
INDEXES = r"""
    SELECT i.relname,
        regexp_replace(i.relname, '^llm_generation_(job_+)?group', 'llm_generation_\1batch')
    FROM pg_index x JOIN pg_class i ON i.oid = x.indexrelid
    WHERE x.indrelid = ANY(%s::regclass[]) AND i.relname ~ '^llm_generation_(job_+)?group'
      AND NOT EXISTS (
        SELECT FROM pg_constraint c WHERE c.conindid = i.oid AND c.conrelid = x.indrelid)
"""
CONSTRAINTS = r"""
    SELECT conrelid::regclass::text, conname,
        regexp_replace(conname, '^llm_generation_(job_)?group', 'llm_generation_\1batch')
    FROM pg_constraint
    WHERE conrelid = ANY(%s::regclass[]) AND conname ~ '^llm_generation_(job_)?group'
"""

INSTALL = """
    UPDATE ir_module_module SET state = 'to install' WHERE name = %s AND state = 'uninstalled'
"""
IS_USED = """
    SELECT EXISTS (SELECT FROM llm_generation_group)
        OR EXISTS (SELECT FROM llm_generation_job WHERE is_economy AND state IN ('draft', 'queued'))
        OR EXISTS (SELECT FROM ir_act_server WHERE state = 'llm_generate')
"""


def migrate(cr, version):
    """Hand over what the addon of batches owns, or remove it where it is empty and not there.

    :raise RuntimeError: where there is something to hand over, and no addon to take it
    """
    if not version or not sql.table_exists(cr, OLD):
        return
    # Not by its record: Odoo keeps that of an addon which is not there any more.
    if Manifest.for_addon(ADDON, display_warning=False):
        _rename(cr)
        _hand_over(cr)
        _logger.info("Batches, economy jobs and their server action belong to %s now", ADDON)
        return
    cr.execute(IS_USED)
    if cr.fetchone()[0]:
        message = (
            f"This database has groups of jobs, economy jobs or server actions that generate. They"
            f" belong to the addon {ADDON} now, which is not on the addons path. Put it there, and"
            f" upgrade again: it is installed by itself, and nothing is lost."
        )
        raise RuntimeError(message)
    cr.execute(SQL("DROP TABLE %s CASCADE", SQL.identifier(OLD)))


def _rename(cr):
    for kind, old, new in (("TABLE", OLD, NEW), ("SEQUENCE", f"{OLD}_id_seq", f"{NEW}_id_seq")):
        _alter(cr, "ALTER %s %s RENAME TO %s", SQL(kind), old, new)
    for table, old, new in COLUMNS:
        sql.rename_column(cr, table, old, new)
    tables = [NEW, "llm_generation_job"]
    cr.execute(CONSTRAINTS, [tables])
    for table, old, new in cr.fetchall():
        _alter(cr, "ALTER TABLE %s RENAME CONSTRAINT %s TO %s", table, old, new)
    cr.execute(INDEXES, [tables])
    for old, new in cr.fetchall():
        _alter(cr, "ALTER INDEX %s RENAME TO %s", old, new)


def _alter(cr, statement, *names):
    names = (name if isinstance(name, SQL) else SQL.identifier(name) for name in names)
    cr.execute(SQL(statement, *names))


def _hand_over(cr):
    params = {"root": ROOT, "addon": ADDON, "old": OLD, "new": NEW, "moved": MOVED}
    cr.execute(HAND_OVER, params)
    cr.execute(HAND_OVER_CONSTRAINTS, params)
    for table, column in MENTIONS:
        names = {"table": SQL.identifier(table), "column": SQL.identifier(column)}
        cr.execute(SQL(MENTION, **names))
    for statement in RENAME_FIELDS:
        cr.execute(statement)
    cr.execute(INSTALL, [ADDON])
