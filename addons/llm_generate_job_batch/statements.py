"""When the work of a group of jobs is done, and which jobs wait until their queue is idle."""

from odoo.addons.llm_generate_job.runner.statements.clock import NOW

# === GROUPS === #

#: A job of group `g` that has not ended for good.
UNDONE = """
    (EXISTS (SELECT FROM llm_generation_job j
             WHERE j.group_id = g.id AND j.state IN ('draft', 'queued', 'running'))
     OR EXISTS (SELECT FROM llm_generation_job j
                WHERE j.group_id = g.id AND j.state = 'failed' AND j.retry_at IS NOT NULL))"""

#: Groups whose work is done, and nobody noted it yet.
DONE_GROUPS = f"""
    SELECT g.id FROM llm_generation_group g
    WHERE g.done_at IS NULL AND (%(groups)s::int[] IS NULL OR g.id = ANY(%(groups)s))
      AND NOT {UNDONE}
    ORDER BY g.id LIMIT 1000
"""

#: Notes that a group is done, and returns whether it is for the first time. Of two that come at
#: the same moment the second one waits for nothing, or finds the note: `done_at` is compared
#: again when the lock is had.
MARK_DONE = f"""
    WITH done AS MATERIALIZED (
        SELECT g.id, g.told_at FROM llm_generation_group g
        WHERE g.id = %s AND g.done_at IS NULL AND NOT {UNDONE}
        FOR NO KEY UPDATE OF g SKIP LOCKED)
    UPDATE llm_generation_group g
    SET done_at = {NOW}, told_at = COALESCE(g.told_at, {NOW})
    FROM done WHERE g.id = done.id
    RETURNING done.told_at IS NULL
"""

#: Failed jobs wait again: what was done goes on.
REOPEN = """
    UPDATE llm_generation_group SET done_at = NULL
    WHERE done_at IS NOT NULL
      AND id IN (SELECT group_id FROM llm_generation_job WHERE id = ANY(%s))
"""

#: Groups that were done long ago and have no job left.
EMPTY_GROUPS = """
    DELETE FROM llm_generation_group g
    WHERE g.id IN (
        SELECT e.id FROM llm_generation_group e
        WHERE e.done_at < %s
          AND NOT EXISTS (SELECT FROM llm_generation_job j WHERE j.group_id = e.id)
        FOR UPDATE SKIP LOCKED)
    RETURNING g.id
"""

# === ECONOMY === #

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

ANY_IDLE = f"SELECT 1 FROM ({IDLE}) idle LIMIT 1"

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

#: Whether a queue of these jobs has any that wait for it to be idle: mostly there are none.
SAVING_BESIDE = f"""
    SELECT 1 FROM (
        SELECT DISTINCT provider_id FROM llm_generation_job WHERE id = ANY(%s)) moved
    CROSS JOIN LATERAL (
        SELECT FROM llm_generation_job j
        WHERE j.provider_id = moved.provider_id AND {SAVING} LIMIT 1) saving
    LIMIT 1
"""
