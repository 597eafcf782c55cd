"""What is due by the clock, and what becomes of jobs whose process is gone."""

from .clock import DUE, HAS_DUE, NOW

#: Scheduled jobs whose time has come join the line.
PROMOTE = f"""
    UPDATE llm_generation_job SET is_delayed = FALSE
    WHERE id IN (
        SELECT id FROM llm_generation_job
        WHERE state = 'queued' AND is_delayed IS TRUE AND scheduled_at <= {NOW} AND {DUE} <= {NOW}
        ORDER BY {DUE} LIMIT 1000 FOR NO KEY UPDATE SKIP LOCKED)
    RETURNING id
"""

#: Seconds until something is due by the clock, NULL for nothing. A pause stays due for half a
#: second after its end: that of a short one would be over before anybody looks.
NEXT_DUE = f"""
    SELECT EXTRACT(EPOCH FROM LEAST(
        (SELECT min({DUE}) FROM llm_generation_job WHERE {HAS_DUE}),
        (SELECT min(q.paused_until) FROM llm_generation_queue q
         CROSS JOIN LATERAL (
             SELECT FROM llm_generation_job j
             WHERE j.provider_id = q.provider_id AND j.state = 'queued' LIMIT 1) waiting
         WHERE q.enabled AND q.paused_until > {NOW} - interval '0.5 seconds')
    ) - {NOW})
"""

HINTED_AT = f"""
            CASE WHEN hinted_at > {NOW} THEN hinted_at
                ELSE GREATEST(date_trunc('second', {NOW}),
                    hinted_at + make_interval(secs => %(pause)s)) END"""

#: External jobs to ask about: what the provider forgets first comes first. Nobody else asks
#: about them for half a minute. A subquery in the place of `due` might be executed more than
#: once, each time with other rows: the limit would not hold.
CLAIM_POLLS = f"""
    WITH due AS MATERIALIZED (
        SELECT id FROM llm_generation_job
        WHERE state = 'running' AND external_job_id IS NOT NULL
          AND ((next_poll_at <= {NOW} AND {DUE} <= {NOW}) OR %(now)s)
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

#: A webhook: the job is to be asked about now, or once a pause since the last webhook's question
#: is over. `hinted_at` is when that question was, or will be.
HINT = f"""
    UPDATE llm_generation_job
    SET is_hinted = TRUE,
        next_poll_at = LEAST(next_poll_at, {HINTED_AT}),
        hinted_at = {HINTED_AT}
    WHERE id = %(job)s AND COALESCE(attempt_token, 0) = %(token)s AND state = 'running'
    RETURNING id
"""

DUE_RETRIES = f"""
    SELECT j.id FROM llm_generation_job j
    WHERE state = 'failed' AND retry_at <= {NOW} AND {DUE} <= {NOW}
    ORDER BY {DUE} LIMIT 500
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

CANCELLED_AT_PROVIDER = f"""
    UPDATE llm_generation_job SET must_cancel = FALSE
    WHERE id IN (
        SELECT id FROM llm_generation_job WHERE must_cancel IS TRUE AND {DUE} = 'epoch'
        LIMIT 50 FOR NO KEY UPDATE SKIP LOCKED)
    RETURNING id
"""

#: The last ones first: claims begin at the head.
WAITING = """
    SELECT id FROM llm_generation_job
    WHERE provider_id = ANY(%(providers)s) AND state = 'queued'
        AND (%(companies)s::int[] IS NULL OR company_id = ANY(%(companies)s))
    ORDER BY priority DESC, turn DESC LIMIT %(limit)s
    FOR NO KEY UPDATE SKIP LOCKED
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
SILENT_RUNNERS = f"""
    SELECT id FROM llm_generation_runner
    WHERE heartbeat_at < {NOW} - make_interval(secs => %(silence)s)
      AND NOT pg_postmaster_start_time() AT TIME ZONE 'UTC'
          BETWEEN {NOW} - make_interval(secs => %(silence)s) AND {NOW}
    FOR UPDATE SKIP LOCKED
"""

#: One process at a time finds out whether the database is a copy. Before, and apart from, the
#: reading.
IDENTITY_LOCK = "SELECT pg_advisory_xact_lock(hashtext('llm_generation_identity'))"

#: Queues with work that the database which this one is a copy of may have done since.
HOLD_QUEUES = """
    UPDATE llm_generation_queue q SET enabled = FALSE
    WHERE enabled AND EXISTS (
        SELECT FROM llm_generation_job j
        WHERE j.provider_id = q.provider_id
          AND (j.state IN ('queued', 'running') OR (j.state = 'failed' AND j.retry_at IS NOT NULL)))
    RETURNING id
"""

HEARTBEAT = f"UPDATE llm_generation_runner SET heartbeat_at = {NOW} WHERE id = %s RETURNING id"
