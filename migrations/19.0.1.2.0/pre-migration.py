"""Have each job that there is post its answer, without a write for each."""

POST = """
    ALTER TABLE IF EXISTS llm_generation_job ADD COLUMN IF NOT EXISTS post boolean DEFAULT TRUE
"""


def migrate(cr, version):
    """Add the column of `post`; Odoo would fill it row by row."""
    if version:
        cr.execute(POST)
