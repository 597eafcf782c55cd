"""Places and figures of the queues."""

POSITIONS = """
    SELECT j.id, 1 + (
        SELECT count(*) FROM (
            SELECT FROM llm_generation_job o
            WHERE o.provider_id = j.provider_id AND o.state = 'queued'
              AND o.is_delayed IS NOT TRUE
              AND (o.priority, o.turn, o.queued_at, o.id)
                  < (j.priority, j.turn, j.queued_at, j.id)
            LIMIT 9999) ahead)
    FROM llm_generation_job j
    WHERE j.id = ANY(%s) AND j.state = 'queued'
"""

#: All figures of all queues in one statement. Each branch fits one index, and needs nothing else.
#: What ended is counted hour by hour, each hour of each provider being one piece of `_figures_idx`.
FIGURES = """
    WITH live AS (
        SELECT provider_id, 'queued' AS state, count(*) AS n, min(queued_at) AS since
        FROM llm_generation_job
        WHERE state = 'queued' AND is_delayed IS NOT TRUE AND provider_id = ANY(%(providers)s)
        GROUP BY provider_id
        UNION ALL
        SELECT provider_id, 'waiting', count(*), NULL FROM llm_generation_job
        WHERE state = 'queued' AND provider_id = ANY(%(providers)s)
        GROUP BY provider_id
        UNION ALL
        SELECT provider_id, 'running', count(*), NULL FROM llm_generation_job
        WHERE state = 'running' AND provider_id = ANY(%(providers)s) GROUP BY provider_id
        UNION ALL
        SELECT provider_id, 'draft', count(*), NULL FROM llm_generation_job
        WHERE state = 'draft' AND provider_id = ANY(%(providers)s) GROUP BY provider_id
    ), lived AS (
        SELECT provider_id, json_object_agg(state, n) AS counts, min(since) AS waiting_since
        FROM live GROUP BY provider_id
    ), hours AS (
        SELECT n AS hour, %(now)s::timestamp - (n + 1) * interval '1 hour' AS begins,
            CASE WHEN n = 0 THEN 'infinity'
                ELSE %(now)s::timestamp - n * interval '1 hour' END AS ends
        FROM generate_series(0, 23) n
    ), ended AS (
        SELECT p.provider_id,
            sum(completed) AS completed,
            sum(failed) AS failed,
            sum(cancelled) AS cancelled,
            sum(today) AS today,
            sum(tokens_today) AS tokens_today,
            sum(completed) FILTER (WHERE hour = 0) AS hour_completed,
            sum(completed + failed) FILTER (WHERE hour = 0) AS hour_finished,
            sum(waits) / NULLIF(sum(waited), 0) AS avg_queue_time,
            sum(runs) / NULLIF(sum(ran), 0) AS avg_processing_time,
            json_agg(json_build_array(completed, failed) ORDER BY hour DESC) AS by_hour
        FROM unnest(%(providers)s::int[]) AS p(provider_id) CROSS JOIN hours CROSS JOIN LATERAL (
            SELECT count(*) FILTER (WHERE state = 'completed') AS completed,
                count(*) FILTER (WHERE state = 'failed') AS failed,
                count(*) FILTER (WHERE state = 'cancelled') AS cancelled,
                count(*) FILTER (WHERE completed_at >= %(midnight)s) AS today,
                sum(COALESCE(prompt_tokens, 0) + COALESCE(completion_tokens, 0))
                    FILTER (WHERE completed_at >= %(midnight)s) AS tokens_today,
                sum(queue_duration) FILTER (WHERE state <> 'cancelled') AS waits,
                count(*) FILTER (WHERE queue_duration > 0 AND state <> 'cancelled') AS waited,
                sum(duration) FILTER (WHERE state <> 'cancelled') AS runs,
                count(*) FILTER (WHERE duration > 0 AND state <> 'cancelled') AS ran
            FROM llm_generation_job
            WHERE provider_id = p.provider_id AND completed_at > begins AND completed_at <= ends
        ) piece
        GROUP BY p.provider_id
    )
    SELECT q.id AS queue_id, b.processed_at AS last_processed_at, lived.*, ended.*,
        retry.can IS TRUE AS retriable
    FROM llm_generation_queue q
    LEFT JOIN llm_generation_bucket b ON b.queue_id = q.id
    LEFT JOIN lived ON lived.provider_id = q.provider_id
    LEFT JOIN ended ON ended.provider_id = q.provider_id
    -- One look for each queue: as EXISTS, all that failed would be compared with all that lives.
    LEFT JOIN LATERAL (
        SELECT TRUE AS can FROM llm_generation_job j
        WHERE j.provider_id = q.provider_id AND j.state = 'failed'
            AND j.retry_count < j.max_retries
            AND (j.identity_key IS NULL OR NOT EXISTS (
                SELECT FROM llm_generation_job o
                WHERE COALESCE(o.company_id, 0) = COALESCE(j.company_id, 0)
                    AND COALESCE(o.identity_scope, 0) = COALESCE(j.identity_scope, 0)
                    AND o.identity_key = j.identity_key
                    AND o.identity_key IS NOT NULL
                    AND o.state IN ('queued', 'running')))
        LIMIT 1) retry ON TRUE
    WHERE q.id = ANY(%(queues)s)
"""
