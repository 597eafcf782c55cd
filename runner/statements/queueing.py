"""How jobs enter a queue, are claimed from it, and leave it."""

from ..tokens import LIMIT_NAMES, MOST_TOKENS
from .clock import NOW

#: Whether a queue `q` has a free slot, and a job that may start. LIMIT is one look into an index
#: for each queue; from EXISTS, statistics that know of few waiting jobs make a scan of all of
#: them, and they change faster than any statistics.
HAS_SLOT = """(
    (SELECT count(*) FROM llm_generation_job j
     WHERE j.provider_id = q.provider_id AND j.state = 'running') < q.max_concurrent_jobs)
"""
HAS_JOB = """(
    (SELECT 1 FROM llm_generation_job j
     WHERE j.provider_id = q.provider_id AND j.state = 'queued' AND j.is_delayed IS NOT TRUE
     LIMIT 1) IS NOT NULL)
"""

#: Queues with a job that may start. The order is random, so that no queue is always last.
READY_QUEUES = f"""
    SELECT q.id
    FROM llm_generation_queue q
    JOIN llm_provider p ON p.id = q.provider_id AND p.active
    WHERE q.enabled
      AND (q.paused_until IS NULL OR q.paused_until <= {NOW})
      AND (%(queue_ids)s::int[] IS NULL OR q.id = ANY(%(queue_ids)s))
      AND {HAS_JOB}
      AND (%(even_full)s OR {HAS_SLOT})
    ORDER BY random()
"""

#: One claimer at a time and queue. It comes before, and apart from, the counting in CLAIM, and
#: tells whether CLAIM is worth asking, which takes longer to plan than to execute; what changes
#: after this look is notified of.
LOCK_QUEUE = f"""
    SELECT {HAS_SLOT} AND {HAS_JOB}, q.provider_id, q.max_concurrent_jobs,
        EXISTS (SELECT FROM llm_generation_model_limit l WHERE l.queue_id = q.id),
        COALESCE(q.requests_per_minute, 0), COALESCE(q.tokens_per_minute, 0)
    FROM llm_generation_queue q
    JOIN llm_provider p ON p.id = q.provider_id AND p.active
    WHERE q.id = %s AND q.enabled AND (q.paused_until IS NULL OR q.paused_until <= {NOW})
    FOR NO KEY UPDATE OF q SKIP LOCKED
"""

READ_BUCKET = f"""
    INSERT INTO llm_generation_bucket (queue_id, request_level, token_level, filled_at)
    VALUES (%s, 0, 0, {NOW} - interval '1 minute')
    ON CONFLICT (queue_id) DO UPDATE SET queue_id = EXCLUDED.queue_id
    RETURNING request_level, token_level, EXTRACT(EPOCH FROM {NOW} - filled_at)
"""

#: What was estimated at the claim is replaced by what was used.
SETTLE_BUCKET = """
    UPDATE llm_generation_bucket b
    SET token_level = b.token_level + %(difference)s
    FROM llm_generation_queue q
    WHERE b.queue_id = q.id AND q.provider_id = %(provider)s AND q.tokens_per_minute > 0
"""

#: queued -> running. Takes the head of the queue, up to the free slots, those of models with a
#: limit of their own, and the token budget; notes what is left of the bucket for others.
CLAIM = f"""
    WITH free AS (
        SELECT LEAST(%(slots)s, %(limit)s - count(*)) AS slots
        FROM llm_generation_job
        WHERE provider_id = %(provider)s AND state = 'running'
    ), limited AS MATERIALIZED (
        SELECT l.model_id, l.max_concurrent_jobs - (
            SELECT count(*) FROM llm_generation_job j
            WHERE j.provider_id = %(provider)s AND j.state = 'running'
              AND j.model_id = l.model_id) AS slots
        FROM llm_generation_model_limit l
        WHERE l.queue_id = %(queue)s
    ), head AS MATERIALIZED (
        SELECT id, priority, turn, queued_at, estimated_tokens, attempt_count, model_id
        FROM llm_generation_job
        WHERE provider_id = %(provider)s AND state = 'queued' AND is_delayed IS NOT TRUE
          AND model_id <> ALL (ARRAY(SELECT model_id FROM limited WHERE slots <= 0))
        ORDER BY priority, turn, queued_at, id
        LIMIT (SELECT GREATEST(slots, 0) FROM free)
        FOR NO KEY UPDATE SKIP LOCKED
    ), affordable AS (
        SELECT id, attempt_count, model_id,
            SUM(estimated_tokens) OVER (
                ORDER BY priority, turn, queued_at, id
                ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING) AS spent,
            row_number() OVER (
                PARTITION BY model_id ORDER BY priority, turn, queued_at, id) AS nth_of_model
        FROM head
    ), attempt AS (
        INSERT INTO llm_generation_attempt
            (job_id, number, runner_id, runner_name, outcome, started_at)
        SELECT id, attempt_count + 1, %(runner)s, %(runner_name)s, 'running', {NOW}
        FROM affordable LEFT JOIN limited USING (model_id)
        WHERE (%(tokens)s::float IS NULL OR COALESCE(spent, 0) < %(tokens)s)
          AND nth_of_model <= COALESCE(limited.slots, nth_of_model)
        RETURNING id, job_id
    ), bucket AS (
        INSERT INTO llm_generation_bucket
            (queue_id, request_level, token_level, filled_at, processed_at)
        SELECT %(queue)s, %(request_level)s - count(*),
            %(token_level)s - COALESCE(sum(head.estimated_tokens), 0), {NOW}, {NOW}
        FROM attempt JOIN head ON head.id = attempt.job_id
        HAVING count(*) > 0
        ON CONFLICT (queue_id) DO UPDATE
        SET request_level = EXCLUDED.request_level, token_level = EXCLUDED.token_level,
            filled_at = EXCLUDED.filled_at, processed_at = EXCLUDED.processed_at
    )
    UPDATE llm_generation_job j
    SET state = 'running',
        started_at = {NOW},
        queue_duration = GREATEST(0, EXTRACT(EPOCH FROM {NOW} - j.queued_at)),
        attempt_token = attempt.id,
        attempt_count = j.attempt_count + 1,
        scheduled_at = NULL,
        progress = 0,
        prompt_tokens = 0,
        completion_tokens = 0,
        external_job_id = NULL,
        next_poll_at = NULL,
        result_expires_at = NULL,
        is_hinted = FALSE
    FROM attempt
    WHERE j.id = attempt.job_id
    RETURNING j.id, attempt.id, (SELECT active FROM res_users u WHERE u.id = j.user_id),
        j.estimated_tokens
"""

#: Jobs and what they refer to.
READ_SURROUNDINGS = """
    SELECT j.id, t.id, m.id, p.id, {columns}
    FROM llm_generation_job j
    JOIN llm_thread t ON t.id = j.thread_id
    JOIN llm_model m ON m.id = j.model_id
    JOIN llm_provider p ON p.id = j.provider_id
    WHERE j.id = ANY(%s)
"""

#: The jobs whose attempts may still end them.
CLAIMED = """
    FROM llm_generation_job j
    JOIN unnest(%s::int[], %s::int[]) AS claim (job_id, token)
      ON claim.job_id = j.id AND claim.token = COALESCE(j.attempt_token, 0)
    WHERE j.state = 'running'
    ORDER BY j.id
"""
STILL_COUNT = f"SELECT j.id {CLAIMED}"

#: The same, locked, with their columns as they are then. Waits for whoever is changing one just
#: now; in the order of the ids, so that two that wait for each other's jobs cannot be.
FENCE = f"SELECT j.id, {{columns}} {CLAIMED} FOR NO KEY UPDATE OF j"

#: The same without those that somebody is changing just now.
FENCE_FREE = f"{FENCE} SKIP LOCKED"

#: The provider accepted a job whose attempt had been overtaken: it has to be told, now or
#: before the next attempt.
LATE_EXTERNAL = """
    WITH attempt AS (
        UPDATE llm_generation_attempt SET external_job_id = %(external)s WHERE id = %(token)s)
    UPDATE llm_generation_job
    SET external_job_id = %(external)s, must_cancel = state IN ('cancelled', 'failed'),
        provider_data = COALESCE(%(data)s::jsonb, provider_data)
    WHERE id = %(job)s AND external_job_id IS NULL AND state <> 'running'
"""

#: What an attempt used that was overtaken before it could tell.
LATE_USAGE = """
    WITH attempt AS (
        UPDATE llm_generation_attempt
        SET prompt_tokens = %(prompt_tokens)s, completion_tokens = %(completion_tokens)s
        WHERE id = %(token)s AND outcome <> 'running')
    UPDATE llm_generation_job
    SET prompt_tokens = %(prompt_tokens)s, completion_tokens = %(completion_tokens)s
    WHERE id = %(job)s AND attempt_token = %(token)s AND state <> 'running'
"""

PROVIDERS_WORK = """
    UPDATE llm_generation_queue SET refused_by = NULL
    WHERE provider_id = ANY(%s) AND refused_by IS NOT NULL
"""

#: What a job may cost until its answer tells: the length of the answer that was asked for, and a
#: token for four characters of the question.
ESTIMATED_TOKENS = f"""
            (COALESCE(
                (SELECT LEAST(
                    GREATEST(max((j.generation_inputs ->> name)::numeric), 1), {MOST_TOKENS})
                 FROM unnest(ARRAY{list(LIMIT_NAMES)}) name
                 WHERE jsonb_typeof(j.generation_inputs -> name) = 'number'
                 HAVING count(*) > 0), %(answer_tokens)s)
            + COALESCE(length(j.generation_inputs::text), 0) / 4
            + COALESCE((SELECT length(m.body) FROM mail_message m
                        WHERE m.id = j.input_message_id), 0) / 4)"""

#: draft, failed -> queued. Takes the turn of each job: one after the turn that runs now, or
#: after the user's own last one. A user's thousand jobs take a thousand turns, another's single
#: job the next one. `last` is materialized, or it would be looked up again for each job, among
#: all those that were just moved. The jobs are locked first, so that the update finds each by
#: its id alone: with their state, which the statistics take for rare, it would compare each of
#: a thousand with all others.
ENQUEUE = f"""
    WITH wanted AS MATERIALIZED (
        SELECT id, provider_id, priority, user_id
        FROM llm_generation_job WHERE id = ANY(%(jobs)s) AND state = ANY(%(sources)s)
        ORDER BY id
        FOR NO KEY UPDATE
    ), numbered AS (
        SELECT *, row_number() OVER (PARTITION BY provider_id, priority, user_id ORDER BY id) AS n
        FROM wanted
    ), last AS MATERIALIZED (
        SELECT g.*, GREATEST(
            COALESCE(
                (SELECT max(j.turn) FROM llm_generation_job j WHERE j.state = 'running'
                 AND j.provider_id = g.provider_id AND j.priority = g.priority),
                (SELECT min(j.turn) - 1 FROM llm_generation_job j WHERE j.state = 'queued'
                 AND j.is_delayed IS NOT TRUE
                 AND j.provider_id = g.provider_id AND j.priority = g.priority),
                -1),
            COALESCE(
                (SELECT max(j.turn) FROM llm_generation_job j WHERE j.state = 'queued'
                 AND j.provider_id = g.provider_id AND j.priority = g.priority
                 AND j.user_id = g.user_id),
                -1)) AS turn
        FROM (SELECT DISTINCT provider_id, priority, user_id FROM wanted) g
    )
    UPDATE llm_generation_job j
    SET state = 'queued',
        turn = last.turn + numbered.n,
        is_delayed = COALESCE(j.scheduled_at > %(now)s, FALSE),
        attempt_count = COALESCE(j.attempt_count, 0),
        retry_count = COALESCE(j.retry_count, 0) + (CASE WHEN j.state = 'failed' THEN 1 ELSE 0 END),
        estimated_tokens = {ESTIMATED_TOKENS},
        queued_at = %(now)s,
        started_at = NULL,
        completed_at = NULL,
        retry_at = NULL
    FROM numbered JOIN last USING (provider_id, priority, user_id)
    WHERE j.id = numbered.id
    RETURNING j.id
"""

#: The next of the jobs that found their thread busy: another answer in it has just ended. One a
#: thread, as all the others would find it busy again.
PROMOTE_BUSY = """
    UPDATE llm_generation_job SET is_delayed = FALSE
    WHERE id IN (
        SELECT DISTINCT ON (thread_id) id FROM llm_generation_job
        WHERE thread_id IN (SELECT thread_id FROM llm_generation_job WHERE id = ANY(%s))
          AND state = 'queued' AND is_delayed IS TRUE AND error_type = 'busy'
        ORDER BY thread_id, priority, turn, queued_at, id)
      AND state = 'queued'
    RETURNING (SELECT q.id FROM llm_generation_queue q
               WHERE q.provider_id = llm_generation_job.provider_id)
"""

#: Returns the queues that have a free slot now, and whether a job found this thread busy: mostly
#: there is none.
CLOSE_ATTEMPTS = f"""
    UPDATE llm_generation_attempt a
    SET outcome = %(outcome)s,
        ended_at = {NOW},
        error_type = j.error_type,
        error_message = j.error_message,
        external_job_id = j.external_job_id,
        prompt_tokens = GREATEST(a.prompt_tokens, j.prompt_tokens, 0),
        completion_tokens = GREATEST(a.completion_tokens, j.completion_tokens, 0)
    FROM llm_generation_job j
    WHERE a.job_id = j.id AND a.outcome = 'running' AND j.id = ANY(%(jobs)s)
    RETURNING (SELECT q.id FROM llm_generation_queue q WHERE q.provider_id = j.provider_id),
        EXISTS (SELECT FROM llm_generation_job other
                WHERE other.thread_id = j.thread_id AND other.state = 'queued'
                  AND other.is_delayed IS TRUE AND other.error_type = 'busy')
"""
