"""From the public addon of this name, for 18.0 or 19.0: have its tables be such as ours grow from.

Its versions have the same numbers as ours. What is in the tables tells whose they are, so that this
is looked at whenever the version changes; tables of ours are left alone.
"""

import logging

from odoo.tools import SQL, sql

from odoo.addons.llm_generate_job.const import DEFAULT_MAX_RETRIES, MAX_RETRIES

_logger = logging.getLogger(__name__)

#: What one kind of queue has and the other has not.
ADD_COLUMNS = """
    ALTER TABLE llm_generation_queue
        ADD COLUMN IF NOT EXISTS model_id integer,
        ADD COLUMN IF NOT EXISTS provider_id integer,
        ADD COLUMN IF NOT EXISTS display_name varchar
"""
#: Ours, where it took the tables over as they were, dropped the model of a queue, and not its name.
RECALL_MODELS = """
    UPDATE llm_generation_queue q SET model_id = m.id
    FROM (
        SELECT min(id) AS id, name FROM llm_model GROUP BY name HAVING count(*) = 1) m
    WHERE q.model_id IS NULL AND q.provider_id IS NULL AND q.display_name = m.name || ' Queue'
"""
LOST_QUEUES = """
    SELECT id, enabled, max_concurrent_jobs FROM llm_generation_queue
    WHERE model_id IS NULL AND provider_id IS NULL
"""

#: What the queues were, until the scripts `post-` have gone by it. Only the first of a model was
#: ever used.
KEEP_QUEUES = """
    CREATE TABLE llm_generation_queue_before AS
    SELECT q.id, q.model_id, p.id AS provider_id, min(q.id) OVER (PARTITION BY p.id) AS queue_id,
        q.model_id IS NULL OR q.id = min(q.id) OVER (PARTITION BY q.model_id) AS is_used,
        COALESCE(q.enabled, TRUE) AS enabled,
        GREATEST(COALESCE(q.max_concurrent_jobs, 5), 1) AS max_concurrent_jobs,
        COALESCE(q.auto_retry_failed, TRUE) AS auto_retry_failed,
        GREATEST(COALESCE(q.retry_delay_minutes, 5), 0) AS retry_delay_minutes
    FROM llm_generation_queue q LEFT JOIN llm_model m ON m.id = q.model_id
    JOIN llm_provider p ON p.id = COALESCE(m.provider_id, q.provider_id)
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
        FROM llm_generation_queue_before WHERE is_used GROUP BY queue_id, provider_id) merged
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
    FROM llm_generation_queue_before old
    WHERE about.%(model)s = 'llm.generation.queue' AND about.res_id = old.id
      AND old.id <> old.queue_id
"""
FORGET_FOLLOWERS = """
    DELETE FROM mail_followers f USING llm_generation_queue_before old
    WHERE f.res_model = 'llm.generation.queue' AND f.res_id = old.id AND old.id <> old.queue_id
"""
REMOVE_MERGED = """
    DELETE FROM llm_generation_queue q
    WHERE NOT EXISTS (SELECT FROM llm_generation_queue_before old WHERE old.queue_id = q.id)
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
    FROM llm_generation_queue_before old
    JOIN llm_generation_queue q ON q.id = old.queue_id
    WHERE j.model_id = old.model_id AND j.state = 'queued' AND old.is_used
      AND NOT old.enabled AND q.enabled
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
        max_retries = LEAST(GREATEST(COALESCE(max_retries, %(usual)s), 0), %(most)s)
    WHERE retry_count IS NULL OR retry_count < 0
       OR max_retries IS NULL OR max_retries NOT BETWEEN 0 AND %(most)s
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

#: Fields of ours that are no columns, or are in no table of ours.
DROP_JOB_COLUMNS = """
    ALTER TABLE llm_generation_job
        DROP COLUMN IF EXISTS display_name CASCADE,
        DROP COLUMN IF EXISTS create_uid CASCADE,
        DROP COLUMN IF EXISTS write_uid CASCADE,
        DROP COLUMN IF EXISTS write_date CASCADE
"""
DROP_THREAD_COLUMNS = "ALTER TABLE llm_thread DROP COLUMN IF EXISTS is_generating CASCADE"

#: Odoo removes at the end of an upgrade what no file has any more, but for records that are not
#: to be updated: the scheduled actions of 18.0 would go on to call methods that are not there.
FORGET_DATA = "UPDATE ir_model_data SET noupdate = FALSE WHERE module = 'llm_generate_job'"


def migrate(cr, version):
    """Merge the queues of models into one of each provider, and make the jobs fit."""
    if not version or not _is_public(cr):
        return
    _logger.info("The tables are those of the public addon, version %s", version)
    _merge_queues(cr)
    _settle_jobs(cr)
    cr.execute(DROP_THREAD_COLUMNS)
    cr.execute(FORGET_DATA)


def _is_public(cr):
    """Tell tables that are not ours: our queues are of a provider, and our jobs have a secret."""
    if len(sql.existing_tables(cr, ("llm_generation_queue", "llm_generation_job"))) < 2:
        return False
    if not sql.column_exists(cr, "llm_generation_job", "webhook_token"):
        return True
    cr.execute("SELECT FROM llm_generation_queue WHERE provider_id IS NULL LIMIT 1")
    return bool(cr.rowcount)


def _merge_queues(cr):
    cr.execute(ADD_COLUMNS)
    cr.execute(RECALL_MODELS)
    cr.execute(LOST_QUEUES)
    for queue, enabled, slots in cr.fetchall():
        _logger.warning(
            "Queue %s is of no model or provider any more, and removed; it was %s, with %s jobs at"
            " once. Look at the queue of its provider.",
            *(queue, "enabled" if enabled else "disabled", slots),
        )
    cr.execute(KEEP_QUEUES)
    cr.execute("ALTER TABLE llm_generation_queue ALTER retry_delay_minutes TYPE double precision")
    for table, model in ABOUT_QUEUES:
        names = {"table": SQL.identifier(table), "model": SQL.identifier(model)}
        cr.execute(SQL(FOLLOW_QUEUES, **names))
    cr.execute(FORGET_FOLLOWERS)
    cr.execute(REMOVE_MERGED)
    cr.execute(MERGE_QUEUES)
    cr.execute(DROP_COLUMNS)
    cr.execute(HOLD_JOBS)


def _settle_jobs(cr):
    for statement in SETTLE_JOBS:
        cr.execute(statement, {"usual": DEFAULT_MAX_RETRIES, "most": MAX_RETRIES})
    if sql.column_exists(cr, "llm_generation_job", "result_payload"):
        cr.execute(KEEP_RESULTS)
    cr.execute(DROP_JOB_COLUMNS)
