"""The number of retries of a job has a bound now."""

from odoo.addons.llm_generate_job.const import MAX_RETRIES

BOUND = """
    UPDATE llm_generation_job SET max_retries = GREATEST(0, LEAST(max_retries, %(most)s))
    WHERE max_retries NOT BETWEEN 0 AND %(most)s
"""


def migrate(cr, version):
    """Bound the retries of the jobs that there are, before the database is told to."""
    if version:
        cr.execute(BOUND, {"most": MAX_RETRIES})
