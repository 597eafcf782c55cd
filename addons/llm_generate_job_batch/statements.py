"""When the work of a batch of jobs is done, and which jobs wait until their queue is idle."""

from odoo.addons.llm_generate_job.const import READY, RETRYING, SCHEDULED
from odoo.addons.llm_generate_job.engine.sql import NOW

# === BATCHES === #

#: A job of batch `b` that has not ended for good.
UNDONE = f"""
    (EXISTS (SELECT FROM llm_generation_job j
             WHERE j.batch_id = b.id AND j.state IN ('draft', 'queued', 'running'))
     OR EXISTS (SELECT FROM llm_generation_job j
                WHERE j.batch_id = b.id AND {RETRYING.sql("j")}))"""

#: Batches whose work is done, and nobody noted it yet.
DONE_BATCHES = f"""
    SELECT b.id FROM llm_generation_batch b
    WHERE b.done_at IS NULL AND (%(batches)s::int[] IS NULL OR b.id = ANY(%(batches)s))
      AND NOT {UNDONE}
    ORDER BY b.id LIMIT 1000
"""

#: Notes that a batch is done, and returns whether it is for the first time. Of two that come at
#: the same moment the second one waits for nothing, or finds the note: `done_at` is compared
#: again when the lock is had.
MARK_DONE = f"""
    WITH done AS MATERIALIZED (
        SELECT b.id, b.told_at FROM llm_generation_batch b
        WHERE b.id = %s AND b.done_at IS NULL AND NOT {UNDONE}
        FOR NO KEY UPDATE OF b SKIP LOCKED)
    UPDATE llm_generation_batch b
    SET done_at = {NOW}, told_at = COALESCE(b.told_at, {NOW})
    FROM done WHERE b.id = done.id
    RETURNING done.told_at IS NULL
"""

#: Failed jobs wait again: what was done goes on.
REOPEN = """
    UPDATE llm_generation_batch SET done_at = NULL
    WHERE done_at IS NOT NULL
      AND id IN (SELECT batch_id FROM llm_generation_job WHERE id = ANY(%s))
"""

#: Batches that were done long ago and have no job left.
EMPTY_BATCHES = """
    DELETE FROM llm_generation_batch b
    WHERE b.id IN (
        SELECT e.id FROM llm_generation_batch e
        WHERE e.done_at < %s
          AND NOT EXISTS (SELECT FROM llm_generation_job j WHERE j.batch_id = e.id)
        FOR UPDATE SKIP LOCKED)
    RETURNING b.thread_id
"""

#: What the jobs of a batch were asked, and answered without a message, where it is not to be kept.
#: One that failed may be tried again, and would not know what.
FORGET_TEXTS = """
    UPDATE llm_generation_job j SET generation_inputs = NULL, output = NULL
    FROM llm_generation_batch b
    WHERE b.id = %s AND b.forgets_texts AND j.batch_id = b.id
      AND j.state IN ('completed', 'cancelled')
"""

#: A column with a default of its own, which costs nothing: Odoo would write it into each job.
ADD_MAX_REPAIRS = """
    ALTER TABLE IF EXISTS llm_generation_job
    ADD COLUMN IF NOT EXISTS max_repairs integer DEFAULT 1
"""

# === ECONOMY === #

#: An economy job that never started. One that is tried again waits for its time like any other.
SAVING = f"""
    {SCHEDULED.sql()} AND is_economy IS TRUE
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
            WHERE provider_id = q.provider_id AND {READY.sql()})
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
            ORDER BY priority, fair_rank, queued_at, id LIMIT idle.slots
            FOR NO KEY UPDATE SKIP LOCKED) job)
    UPDATE llm_generation_job j SET is_scheduled = FALSE FROM chosen WHERE j.id = chosen.id
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
