"""What is due by the clock, and what becomes of jobs whose process is gone."""

from .clock import AHEAD, NOW

#: Scheduled jobs whose time has come join the line.
PROMOTE = f"""
    UPDATE llm_generation_job SET is_delayed = FALSE
    WHERE id IN (
        SELECT id FROM llm_generation_job
        WHERE state = 'queued' AND is_delayed IS TRUE AND scheduled_at <= {NOW}
        ORDER BY scheduled_at LIMIT 1000 FOR NO KEY UPDATE SKIP LOCKED)
    RETURNING id
"""

#: Seconds until something is due by the clock, NULL for nothing. A pause stays due for half a
#: second after its end: that of a short one would be over before anybody looks.
NEXT_DUE = f"""
    SELECT EXTRACT(EPOCH FROM LEAST(
        (SELECT min(scheduled_at) FROM llm_generation_job
         WHERE state = 'queued' AND is_delayed IS TRUE),
        (SELECT min(retry_at) FROM llm_generation_job
         WHERE state = 'failed' AND retry_at IS NOT NULL),
        (SELECT min(next_poll_at) FROM llm_generation_job
         WHERE state = 'running' AND external_job_id IS NOT NULL),
        (SELECT min(q.paused_until) FROM llm_generation_queue q
         CROSS JOIN LATERAL (
             SELECT FROM llm_generation_job j
             WHERE j.provider_id = q.provider_id AND j.state = 'queued' LIMIT 1) waiting
         WHERE q.enabled AND q.paused_until > {NOW} - interval '0.5 seconds'),
        (SELECT {NOW} FROM llm_generation_job WHERE must_cancel IS TRUE ORDER BY id LIMIT 1),
        (SELECT {NOW} FROM llm_generation_farewell ORDER BY id LIMIT 1)
    ) - {NOW})
"""

#: External jobs to ask about: what the provider forgets first comes first. Nobody else asks
#: about them for half a minute. A subquery in the place of `due` might be executed more than
#: once, each time with other rows: the limit would not hold.
CLAIM_POLLS = f"""
    WITH due AS MATERIALIZED (
        SELECT id FROM llm_generation_job
        WHERE state = 'running' AND external_job_id IS NOT NULL
          AND (next_poll_at <= {NOW} OR %(now)s)
        ORDER BY result_expires_at NULLS LAST, next_poll_at
        LIMIT %(limit)s
        FOR NO KEY UPDATE SKIP LOCKED
    )
    UPDATE llm_generation_job j
    SET next_poll_at = {NOW} + interval '30 seconds', is_hinted = FALSE
    FROM due
    WHERE j.id = due.id
    RETURNING j.id, j.attempt_token
"""

DUE_RETRIES = f"""
    SELECT j.id FROM llm_generation_job j
    WHERE j.state = 'failed' AND j.retry_at <= {NOW}
    ORDER BY j.retry_at LIMIT 500
    FOR NO KEY UPDATE SKIP LOCKED
"""

#: Running longer than their queue allows. What a provider runs is asked about once more first: it
#: may have ended while nobody asked, and would be paid for again.
OVERDUE = f"""
    SELECT j.id FROM llm_generation_job j
    JOIN llm_generation_queue q ON q.provider_id = j.provider_id
    WHERE j.state = 'running' AND q.job_timeout > 0
      AND j.started_at < {NOW} - make_interval(secs => q.job_timeout)
      AND (j.external_job_id IS NULL
        OR j.asked_at >= j.started_at + make_interval(secs => q.job_timeout))
    LIMIT 500
    FOR NO KEY UPDATE OF j SKIP LOCKED
"""

CANCELLED_AT_PROVIDER = """
    UPDATE llm_generation_job SET must_cancel = FALSE
    WHERE id IN (
        SELECT id FROM llm_generation_job WHERE must_cancel IS TRUE
        ORDER BY id LIMIT 50 FOR NO KEY UPDATE SKIP LOCKED)
    RETURNING id
"""

#: The last ones first: claims begin at the head.
WAITING = """
    SELECT id FROM llm_generation_job
    WHERE provider_id = ANY(%s) AND state = 'queued'
    ORDER BY priority DESC, turn DESC LIMIT %s
    FOR NO KEY UPDATE SKIP LOCKED
"""

#: The same of jobs that are no more.
FAREWELLS = """
    DELETE FROM llm_generation_farewell
    WHERE id IN (
        SELECT id FROM llm_generation_farewell ORDER BY id LIMIT 50 FOR UPDATE SKIP LOCKED)
    RETURNING job_number, provider_id, model_id, external_job_id, provider_data
"""

#: Running attempts whose process is gone: its heartbeat stopped and its session lock is free,
#: or its row is gone (a restored dump, a process that left without giving back).
ORPHANS = """
    SELECT j.id, j.external_job_id IS NOT NULL
    FROM llm_generation_job j
    LEFT JOIN llm_generation_attempt a ON a.id = j.attempt_token
    WHERE j.state = 'running'
      AND ((a.runner_id IS NULL AND j.external_job_id IS NULL) OR a.runner_id = ANY(%s))
    FOR NO KEY UPDATE OF j SKIP LOCKED
"""

#: Running in the name of a runner that does not know them.
LOST = """
    SELECT j.id
    FROM llm_generation_job j
    JOIN llm_generation_attempt a ON a.id = j.attempt_token
    WHERE j.state = 'running' AND a.runner_id = %s AND NOT a.id = ANY(%s)
    FOR NO KEY UPDATE OF j SKIP LOCKED
"""

#: After a longer absence of the database everybody was silent: who lives gets time to say so.
#: A sign of life from the future is older than the clock, which was set back since; a start from
#: the future, too.
SILENT_RUNNERS = f"""
    SELECT id FROM llm_generation_runner
    WHERE (heartbeat_at < {NOW} - make_interval(secs => %(silence)s) OR heartbeat_at > {AHEAD})
      AND NOT pg_postmaster_start_time() AT TIME ZONE 'UTC'
          BETWEEN {NOW} - make_interval(secs => %(silence)s) AND {NOW}
    FOR UPDATE SKIP LOCKED
"""

HEARTBEAT = f"UPDATE llm_generation_runner SET heartbeat_at = {NOW} WHERE id = %s RETURNING id"
