"""What the times in the tables mean after the database's clock was set.

What was noted before it was set back lies in the future. Waits keep their length, counted anew;
each statement finds nothing when another runner has executed it already.
"""

from .clock import AHEAD, NOW

EPOCH = f"SELECT EXTRACT(EPOCH FROM {NOW})"

#: Who ran through it did not run an hour longer, and is asked about soon.
RUNNING = f"""
    UPDATE llm_generation_job j
    SET started_at = {NOW},
        next_poll_at = CASE WHEN next_poll_at IS NOT NULL THEN {NOW} END
    FROM (
        SELECT id FROM llm_generation_job WHERE state = 'running'
        ORDER BY id FOR NO KEY UPDATE SKIP LOCKED) running
    WHERE j.id = running.id
"""

RETRIES = f"""
    UPDATE llm_generation_job j
    SET retry_at = {NOW} + (j.retry_at - j.completed_at), completed_at = {NOW}
    FROM (
        SELECT id FROM llm_generation_job
        WHERE state = 'failed' AND retry_at IS NOT NULL AND completed_at > {AHEAD}
        ORDER BY id FOR NO KEY UPDATE SKIP LOCKED) failed
    WHERE j.id = failed.id
"""

#: Those that were given back; the time that somebody wished for is the clock's, and stays.
DELAYS = f"""
    UPDATE llm_generation_job j
    SET scheduled_at = {NOW} + (j.scheduled_at - given_back.at)
    FROM (
        SELECT job.id, a.ended_at AS at
        FROM llm_generation_job job
        JOIN llm_generation_attempt a ON a.id = job.attempt_token
        WHERE job.state = 'queued' AND job.is_delayed IS TRUE AND job.error_type IS NOT NULL
          AND a.ended_at > {AHEAD} AND job.scheduled_at > a.ended_at
        ORDER BY job.id FOR NO KEY UPDATE OF job SKIP LOCKED) given_back
    WHERE j.id = given_back.id
"""

PAUSES = f"""
    UPDATE llm_generation_queue q
    SET paused_until = {NOW} + (q.paused_until - q.write_date), write_date = {NOW}
    FROM (
        SELECT id FROM llm_generation_queue
        WHERE paused_until > {NOW} AND write_date > {AHEAD}
        ORDER BY id FOR NO KEY UPDATE SKIP LOCKED) paused
    WHERE q.id = paused.id
"""

#: A bucket is filled by the time since it was filled last.
BUCKETS = f"UPDATE llm_generation_bucket SET filled_at = {NOW} WHERE filled_at > {AHEAD}"

ALL = (RUNNING, RETRIES, DELAYS, PAUSES, BUCKETS)
