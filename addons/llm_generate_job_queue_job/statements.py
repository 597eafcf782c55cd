"""What the bridge says to PostgreSQL."""

from odoo.addons.llm_generate_job.engine.sql import NOW

#: Which record of queue_job is to execute an attempt.
HANDED_OVER = """
    UPDATE llm_generation_attempt a SET queue_job_uuid = given.uuid
    FROM unnest(%s::int[], %s::text[]) AS given (token, uuid)
    WHERE a.id = given.token
"""

#: Workers of queue_job begin attempts: from now on these belong to that process. Their jobs are
#: locked, and their time of waiting ends only now.
BEGIN = f"""
    WITH attempt AS (
        UPDATE llm_generation_attempt
        SET runner_id = %(runner)s, runner_name = %(runner_name)s,
            started_at = {NOW}, queue_job_begun_at = {NOW}
        WHERE id = ANY(%(tokens)s)
        RETURNING job_id
    )
    UPDATE llm_generation_job j
    SET started_at = {NOW},
        queue_duration = GREATEST(0, EXTRACT(EPOCH FROM {NOW} - j.queued_at))
    FROM attempt WHERE j.id = attempt.job_id
    RETURNING j.id
"""

#: Attempts of a runner that queue_job has yet to begin, and still will: their queues are its own.
WAITING = f"""
    SELECT a.id
    FROM llm_generation_attempt a
    JOIN queue_job q ON q.uuid = a.queue_job_uuid
    JOIN llm_generation_job j ON j.id = a.job_id
    JOIN llm_generation_queue own ON own.provider_id = j.provider_id AND own.executor = 'queue_job'
    WHERE a.runner_id = %(runner)s AND a.outcome = 'running' AND a.queue_job_begun_at IS NULL
      AND a.started_at > {NOW} - make_interval(secs => %(patience)s)
      AND q.state IN ('wait_dependencies', 'pending', 'enqueued', 'started')
"""

#: All of those, whoever's they are.
UNBEGUN = """
    SELECT j.id
    FROM llm_generation_job j
    JOIN llm_generation_attempt a ON a.id = j.attempt_token
    WHERE j.state = 'running' AND a.queue_job_uuid IS NOT NULL AND a.queue_job_begun_at IS NULL
    FOR NO KEY UPDATE OF j, a
"""

#: What queue_job does of a provider's jobs just now.
HAS_BEGUN = """
    SELECT EXISTS (
        SELECT FROM llm_generation_job j
        JOIN llm_generation_attempt a ON a.id = j.attempt_token
        WHERE j.provider_id = %s AND j.state = 'running' AND a.queue_job_begun_at IS NOT NULL)
"""

#: Records of queue_job that are no longer to be executed. One that it starts just now finds out
#: by itself.
WITHDRAW = f"""
    UPDATE queue_job SET state = 'cancelled', date_cancelled = {NOW}, result = %(reason)s
    WHERE id IN (
        SELECT q.id
        FROM queue_job q
        JOIN llm_generation_attempt a ON a.queue_job_uuid = q.uuid
        WHERE a.id = ANY(%(tokens)s) AND a.queue_job_begun_at IS NULL
          AND q.state IN ('wait_dependencies', 'pending')
        FOR NO KEY UPDATE OF q SKIP LOCKED)
"""
