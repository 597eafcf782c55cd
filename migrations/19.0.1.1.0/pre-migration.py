"""Remove what 19.0.1.1.0 has no more. Each step may find that its work was done already."""

import logging

from odoo.tools import sql

from odoo.addons.llm_generate_job.const import MAX_RETRIES

_logger = logging.getLogger(__name__)

#: The number of retries of a job has a bound now.
BOUND = """
    UPDATE llm_generation_job SET max_retries = GREATEST(0, LEAST(max_retries, %(most)s))
    WHERE max_retries NOT BETWEEN 0 AND %(most)s
"""

#: Jobs that were deleted before their provider was told that they were cancelled.
UNTOLD = "SELECT provider_id, job_number, external_job_id FROM llm_generation_farewell"

#: Where the jobs were last run is noted otherwise now.
FORGET_ORIGIN = "DELETE FROM ir_config_parameter WHERE key = 'llm_generate_job.database'"

#: Others serve their statements as well, see `models/llm_generation_job.py`.
DROP_INDEXES = """
    DROP INDEX IF EXISTS
        llm_generation_job_busy_idx, llm_generation_job_delayed_idx, llm_generation_job_draft_idx,
        llm_generation_job_must_cancel_idx, llm_generation_job_old_idx, llm_generation_job_poll_idx,
        llm_generation_job_retriable_idx, llm_generation_job_retry_idx,
        llm_generation_job_running_idx, llm_generation_job_turn_idx,
        llm_generation_job__group_id_index
"""


#: Columns of jobs that have the words of the field now, and the values of an outcome.
RENAMED = (
    ("is_delayed", "is_scheduled"),
    ("turn", "fair_rank"),
    ("must_cancel", "cancel_requested"),
    ("is_hinted", "poll_requested"),
)
FIELDS = """
    UPDATE ir_model_fields SET name = %(new)s
    WHERE model = 'llm.generation.job' AND name = %(old)s
"""
OUTCOME = "UPDATE llm_generation_attempt SET outcome = 'snoozed' WHERE outcome = 'given_back'"


def migrate(cr, version):
    """Drop tables that no model has any more; Odoo drops the columns of fields by itself."""
    if not version:
        return
    cr.execute(BOUND, {"most": MAX_RETRIES})
    _drop_farewells(cr)
    cr.execute(FORGET_ORIGIN)
    for old, new in RENAMED:
        if sql.column_exists(cr, "llm_generation_job", old):
            sql.rename_column(cr, "llm_generation_job", old, new)
            cr.execute(FIELDS, {"old": old, "new": new})
    if sql.table_exists(cr, "llm_generation_attempt"):
        cr.execute(OUTCOME)
    cr.execute(DROP_INDEXES)


def _drop_farewells(cr):
    if not sql.table_exists(cr, "llm_generation_farewell"):
        return
    cr.execute(UNTOLD)
    for provider, job, external in cr.fetchall():
        _logger.warning(
            "Job %s of provider %s was deleted, and is not cancelled there: %s",
            *(job, provider, external),
        )
    cr.execute("DROP TABLE llm_generation_farewell")
