"""When the work of a group of jobs is done."""

from .clock import NOW

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
