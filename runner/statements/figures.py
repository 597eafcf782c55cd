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

#: All figures of all queues in one statement. Each branch fits one partial index.
FIGURES = """
    WITH live AS (
        SELECT provider_id, 'queued' AS state, count(*) AS n FROM llm_generation_job
        WHERE state = 'queued' AND provider_id = ANY(%(providers)s) GROUP BY provider_id
        UNION ALL
        SELECT provider_id, 'running', count(*) FROM llm_generation_job
        WHERE state = 'running' AND provider_id = ANY(%(providers)s) GROUP BY provider_id
        UNION ALL
        SELECT provider_id, 'draft', count(*) FROM llm_generation_job
        WHERE state = 'draft' AND provider_id = ANY(%(providers)s) GROUP BY provider_id
    ), lived AS (
        SELECT provider_id, json_object_agg(state, n) AS counts FROM live GROUP BY provider_id
    ), ended AS (
        SELECT provider_id,
            count(*) FILTER (WHERE state = 'completed') AS completed,
            count(*) FILTER (WHERE state = 'failed') AS failed,
            count(*) FILTER (WHERE state = 'cancelled') AS cancelled,
            count(*) FILTER (WHERE completed_at >= %(midnight)s) AS today,
            count(*) FILTER (WHERE completed_at >= %(hour_ago)s
                AND state IN ('completed', 'failed')) AS hour_finished,
            count(*) FILTER (WHERE completed_at >= %(hour_ago)s
                AND state = 'completed') AS hour_completed,
            avg(queue_duration) FILTER (WHERE queue_duration > 0
                AND state IN ('completed', 'failed')) AS avg_queue_time,
            avg(duration) FILTER (WHERE duration > 0
                AND state IN ('completed', 'failed')) AS avg_processing_time
        FROM llm_generation_job
        WHERE completed_at >= %(day_ago)s AND provider_id = ANY(%(providers)s)
        GROUP BY provider_id
    )
    SELECT q.id AS queue_id, b.processed_at AS last_processed_at, lived.counts, ended.*
    FROM llm_generation_queue q
    LEFT JOIN llm_generation_bucket b ON b.queue_id = q.id
    LEFT JOIN lived ON lived.provider_id = q.provider_id
    LEFT JOIN ended ON ended.provider_id = q.provider_id
    WHERE q.id = ANY(%(queues)s)
"""
