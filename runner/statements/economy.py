"""Jobs that wait until their queue is idle."""

from .clock import NOW

#: An economy job that never started. One that is tried again waits for its time like any other.
SAVING = """
    state = 'queued' AND is_delayed IS TRUE AND is_economy IS TRUE
    AND COALESCE(attempt_count, 0) = 0"""

#: Queues with economy jobs and nothing else to start, of whose slots fewer than half are used; and
#: how many are left of that half. As for those that are ready, one look into an index for each.
IDLE = f"""
    SELECT * FROM (
        SELECT q.provider_id, GREATEST(q.max_concurrent_jobs / 2, 1) - (
            SELECT count(*) FROM llm_generation_job
            WHERE provider_id = q.provider_id AND state = 'running') AS slots
        FROM llm_generation_queue q
        CROSS JOIN LATERAL (
            SELECT FROM llm_generation_job
            WHERE provider_id = q.provider_id AND {SAVING} LIMIT 1) saving
        WHERE q.enabled AND (q.paused_until IS NULL OR q.paused_until <= {NOW})
          AND NOT EXISTS (
            SELECT FROM llm_generation_job
            WHERE provider_id = q.provider_id AND state = 'queued' AND is_delayed IS NOT TRUE)
    ) queue WHERE slots > 0
"""

#: As many economy jobs join the line as half of the idle queues' slots have room for. Two that do
#: this at once may let in twice as many: the limit of the queue holds all the same.
PROMOTE_ECONOMY = f"""
    WITH idle AS MATERIALIZED ({IDLE}), chosen AS MATERIALIZED (
        SELECT job.id FROM idle CROSS JOIN LATERAL (
            SELECT id FROM llm_generation_job
            WHERE provider_id = idle.provider_id AND {SAVING}
            ORDER BY priority, turn, queued_at, id LIMIT idle.slots
            FOR NO KEY UPDATE SKIP LOCKED) job)
    UPDATE llm_generation_job j SET is_delayed = FALSE FROM chosen WHERE j.id = chosen.id
    RETURNING j.id
"""
