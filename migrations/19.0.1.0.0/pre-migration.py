"""From the addon for Odoo 18.0: bring its tables into a form that ours can grow out of."""

from odoo.tools import SQL, sql

#: What the queues were, until post-migration.py has made limits of them.
KEEP_QUEUES = """
    CREATE TABLE llm_generation_queue_of_18 AS
    SELECT q.id, %(model)s AS model_id, %(provider)s AS provider_id,
        min(q.id) OVER (PARTITION BY %(provider)s) AS queue_id,
        COALESCE(q.enabled, TRUE) AS enabled,
        GREATEST(COALESCE(q.max_concurrent_jobs, 5), 1) AS max_concurrent_jobs,
        COALESCE(q.auto_retry_failed, TRUE) AS auto_retry_failed,
        GREATEST(COALESCE(q.retry_delay_minutes, 5), 0) AS retry_delay_minutes
    FROM llm_generation_queue q %(join)s
"""

#: A provider had as many slots as the queues of its models had together. Where all of them were
#: disabled, it stays disabled, and has them all once it is enabled.
MERGE_QUEUES = """
    UPDATE llm_generation_queue q
    SET provider_id = merged.provider_id, enabled = merged.enabled,
        max_concurrent_jobs = merged.max_concurrent_jobs,
        auto_retry_failed = merged.auto_retry_failed,
        retry_delay_minutes = merged.retry_delay_minutes
    FROM (
        SELECT queue_id, provider_id, bool_or(enabled) AS enabled,
            COALESCE(sum(max_concurrent_jobs) FILTER (WHERE enabled),
                sum(max_concurrent_jobs)) AS max_concurrent_jobs,
            bool_or(auto_retry_failed) AS auto_retry_failed,
            max(retry_delay_minutes) AS retry_delay_minutes
        FROM llm_generation_queue_of_18 GROUP BY queue_id, provider_id) merged
    WHERE q.id = merged.queue_id
"""

#: (table, column of the model's name): what was written about a queue stays with the one it is in.
ABOUT_QUEUES = (
    ("mail_message", "model"),
    ("mail_activity", "res_model"),
    ("ir_attachment", "res_model"),
)
FOLLOW_QUEUES = """
    UPDATE %(table)s about SET res_id = old.queue_id
    FROM llm_generation_queue_of_18 old
    WHERE about.%(model)s = 'llm.generation.queue' AND about.res_id = old.id
      AND old.id <> old.queue_id
"""
FORGET_FOLLOWERS = """
    DELETE FROM mail_followers f USING llm_generation_queue_of_18 old
    WHERE f.res_model = 'llm.generation.queue' AND f.res_id = old.id AND old.id <> old.queue_id
"""
REMOVE_MERGED = """
    DELETE FROM llm_generation_queue q
    WHERE NOT EXISTS (SELECT FROM llm_generation_queue_of_18 old WHERE old.queue_id = q.id)
"""

DROP_COLUMNS = """
    ALTER TABLE llm_generation_queue
        DROP COLUMN IF EXISTS model_id CASCADE,
        DROP COLUMN IF EXISTS display_name CASCADE,
        DROP COLUMN IF EXISTS last_processed_at CASCADE
"""

#: A queue that is disabled keeps what waits; a model's alone cannot be any more, so that its
#: jobs wait for their owners.
HOLD_JOBS = """
    UPDATE llm_generation_job j SET state = 'draft'
    FROM llm_generation_queue_of_18 old
    JOIN llm_generation_queue q ON q.id = old.queue_id
    WHERE j.model_id = old.model_id AND j.state = 'queued' AND NOT old.enabled AND q.enabled
      AND COALESCE(j.external_job_id, '') = ''
"""

#: What our constraints and the engine's statements take for granted.
SETTLE_JOBS = (
    "UPDATE llm_generation_job SET external_job_id = NULL WHERE external_job_id = ''",
    # The provider had put these into a queue of its own: they are submitted.
    """
    UPDATE llm_generation_job
    SET state = 'running', started_at = COALESCE(started_at, queued_at, create_date)
    WHERE state = 'queued' AND external_job_id IS NOT NULL
    """,
    """
    UPDATE llm_generation_job
    SET completed_at = COALESCE(write_date, create_date, now() AT TIME ZONE 'UTC')
    WHERE completed_at IS NULL AND state IN ('completed', 'failed', 'cancelled')
    """,
    """
    UPDATE llm_generation_job SET completed_at = NULL
    WHERE completed_at IS NOT NULL AND state IN ('draft', 'queued', 'running')
    """,
    """
    UPDATE llm_generation_job SET queued_at = COALESCE(create_date, now() AT TIME ZONE 'UTC')
    WHERE queued_at IS NULL AND state = 'queued'
    """,
    """
    UPDATE llm_generation_job
    SET retry_count = GREATEST(COALESCE(retry_count, 0), 0),
        max_retries = GREATEST(COALESCE(max_retries, 3), 0)
    WHERE retry_count IS NULL OR max_retries IS NULL OR retry_count < 0 OR max_retries < 0
    """,
)

#: Some versions kept the answer in a field of its own.
KEEP_RESULTS = """
    UPDATE llm_generation_job
    SET provider_data = COALESCE(provider_data::jsonb, '{}'::jsonb)
        || jsonb_build_object('result_payload', result_payload::jsonb)
    WHERE result_payload IS NOT NULL
      AND jsonb_typeof(COALESCE(provider_data::jsonb, '{}'::jsonb)) = 'object'
"""

#: Odoo removes at the end of an upgrade what no file has any more, but for records that are not
#: to be updated: the scheduled actions of 18.0 would go on to call methods that are not there.
FORGET_DATA = "UPDATE ir_model_data SET noupdate = FALSE WHERE module = 'llm_generate_job'"


def migrate(cr, version):
    """Merge the queues of models into one of each provider, and make the jobs fit."""
    if version and sql.table_exists(cr, "llm_generation_queue"):
        _merge_queues(cr)
    if version and sql.table_exists(cr, "llm_generation_job"):
        _settle_jobs(cr)
    cr.execute(FORGET_DATA)


def _merge_queues(cr):
    of_models = sql.column_exists(cr, "llm_generation_queue", "model_id")
    parts = {"model": SQL("NULL::integer"), "provider": SQL("q.provider_id"), "join": SQL()}
    if of_models:
        parts = {"model": SQL("q.model_id"), "provider": SQL("m.provider_id")}
        parts["join"] = SQL("JOIN llm_model m ON m.id = q.model_id")
        cr.execute("ALTER TABLE llm_generation_queue ADD COLUMN IF NOT EXISTS provider_id integer")
    cr.execute(SQL(KEEP_QUEUES, **parts))
    cr.execute("ALTER TABLE llm_generation_queue ALTER retry_delay_minutes TYPE double precision")
    cr.execute(MERGE_QUEUES)
    for table, model in ABOUT_QUEUES:
        names = {"table": SQL.identifier(table), "model": SQL.identifier(model)}
        cr.execute(SQL(FOLLOW_QUEUES, **names))
    cr.execute(FORGET_FOLLOWERS)
    cr.execute(REMOVE_MERGED)
    cr.execute(DROP_COLUMNS)
    cr.execute(HOLD_JOBS)


def _settle_jobs(cr):
    for statement in SETTLE_JOBS:
        cr.execute(statement)
    if sql.column_exists(cr, "llm_generation_job", "result_payload"):
        cr.execute(KEEP_RESULTS)
    cr.execute("ALTER TABLE llm_generation_job DROP COLUMN IF EXISTS display_name CASCADE")
