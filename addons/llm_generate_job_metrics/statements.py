"""How the counters are kept."""

from odoo.addons.llm_generate_job.engine.sql import NOW

#: Seconds after which everything that ended at a moment has been committed.
SETTLED = 10

#: Where the counting stands; one process at a time moves it. The first call begins now.
OPEN_MARK = f"""
    INSERT INTO llm_generation_tally_mark (id, counted_until)
    VALUES (1, {NOW} - make_interval(secs => {SETTLED}))
    ON CONFLICT (id) DO NOTHING
"""
TAKE_MARK = f"""
    SELECT counted_until, GREATEST(counted_until, {NOW} - make_interval(secs => {SETTLED}))
    FROM llm_generation_tally_mark WHERE id = 1 FOR UPDATE SKIP LOCKED
"""
MOVE_MARK = "UPDATE llm_generation_tally_mark SET counted_until = %(until)s WHERE id = 1"

#: Adds what ended since the mark to the counters. A new one is inserted, and no other: each try
#: would take a number of the sequence. The bucket of a duration is the number of the
#: bounds that it exceeds.
COUNT = """
    WITH jobs AS (
        SELECT provider_id, state, queue_duration, duration FROM llm_generation_job
        WHERE completed_at > %(since)s AND completed_at <= %(until)s
    ), ran AS (
        SELECT * FROM jobs WHERE state <> 'cancelled'
    ), tries AS (
        SELECT j.provider_id, a.outcome, a.error_type, a.prompt_tokens, a.completion_tokens
        FROM llm_generation_attempt a JOIN llm_generation_job j ON j.id = a.job_id
        WHERE a.ended_at > %(since)s AND a.ended_at <= %(until)s
    ), found AS (
        SELECT provider_id, 'jobs' AS series, state AS label, count(*)::float AS value
        FROM jobs GROUP BY provider_id, state
        UNION ALL
        SELECT provider_id, 'attempts', concat_ws('|', outcome, error_type), count(*)
        FROM tries GROUP BY 1, 2, 3
        UNION ALL
        SELECT provider_id, 'tokens', 'prompt', sum(prompt_tokens) FROM tries GROUP BY 1
        UNION ALL
        SELECT provider_id, 'tokens', 'completion', sum(completion_tokens) FROM tries GROUP BY 1
        UNION ALL
        SELECT provider_id, 'wait', width_bucket(queue_duration, %(waits)s::float[])::text, count(*)
        FROM ran WHERE queue_duration IS NOT NULL GROUP BY 1, 2, 3
        UNION ALL
        SELECT provider_id, 'wait_sum', '', sum(queue_duration) FROM ran GROUP BY 1, 2, 3
        UNION ALL
        SELECT provider_id, 'run', width_bucket(duration, %(runs)s::float[])::text, count(*)
        FROM ran WHERE duration IS NOT NULL GROUP BY 1, 2, 3
        UNION ALL
        SELECT provider_id, 'run_sum', '', sum(duration) FROM ran GROUP BY 1, 2, 3
    ), known AS (
        UPDATE llm_generation_tally t SET value = t.value + found.value
        FROM found
        WHERE found.value > 0 AND (t.provider_id, t.series, t.label)
            = (found.provider_id, found.series, found.label)
        RETURNING t.provider_id, t.series, t.label
    )
    INSERT INTO llm_generation_tally (provider_id, series, label, value)
    SELECT * FROM found
    WHERE value > 0 AND (provider_id, series, label) NOT IN (SELECT * FROM known)
"""

TALLIES = """
    SELECT provider_id, series, label, value FROM llm_generation_tally ORDER BY provider_id, label
"""

RUNNERS = f"""
    SELECT name, slots, EXTRACT(EPOCH FROM {NOW} - heartbeat_at)::float
    FROM llm_generation_runner ORDER BY id
"""
