"""Every statement of the engine, in the order of a job's life."""

from ..const import AT_PROVIDER, HOPELESS, MEDIA_USES, READY, RETRYING, SCHEDULED, WAITS_FOR_THREAD
from ..protocol.tokens import LIMIT_NAMES, MOST_TOKENS

# === CLOCK: The time, in SQL.

#: The database's clock: several servers share it, whatever their own clocks say.
NOW = "(clock_timestamp() AT TIME ZONE 'UTC')"
CLOCK = f"SELECT {NOW}"
#: The same, and one moment for all rows of a statement.
MOMENT = "(statement_timestamp() AT TIME ZONE 'UTC')"

#: The moment at which time brings something for a job: its provider is told that it was cancelled
#: (at once, and again until it has confirmed), it joins the line, is retried, or is asked about.
#: One index has them all.
DUE = """
    (CASE WHEN cancel_requested AND state = 'running' THEN 'epoch'::timestamp
        WHEN cancel_requested THEN COALESCE(cancel_again_at, 'epoch'::timestamp)
        WHEN state = 'queued' THEN scheduled_at
        WHEN state = 'failed' THEN retry_at
        ELSE next_poll_at END)"""
#: The jobs that have such a moment.
HAS_DUE = f"""
    (cancel_requested IS TRUE
        OR ({SCHEDULED.sql()})
        OR ({RETRYING.sql()})
        OR ({AT_PROVIDER.sql()}))"""


# === STORAGE: How PostgreSQL keeps the tables that each job writes several times within seconds.

#: Each job leaves three dead rows, and their entries in the index that the claim reads. By the
#: share of a large table that is the default, they would wait for hundreds of thousands.
TABLES = """
    ALTER TABLE llm_generation_job SET (
        autovacuum_vacuum_scale_factor = 0.01, autovacuum_vacuum_threshold = 5000,
        autovacuum_analyze_scale_factor = 0.02, autovacuum_analyze_threshold = 2000);
    -- An attempt is written twice, the second time into the room that its page keeps for that: no
    -- index has to know.
    ALTER TABLE llm_generation_attempt SET (
        fillfactor = 70,
        autovacuum_vacuum_scale_factor = 0.02, autovacuum_vacuum_threshold = 5000)
"""


# === QUEUEING: How jobs enter a queue, are claimed from it, and leave it.

#: How many calls of a provider go on whose jobs no longer run: they were given up, and the
#: service may still work on them.
HELD = f"""(
    SELECT count(*) FROM llm_generation_held_slot h
    WHERE h.provider_id = {{provider}} AND h.until > {NOW})
"""
#: Whether a queue `q` has a free slot, and a job that may start. LIMIT is one look into an index
#: for each queue; from EXISTS, statistics that know of few waiting jobs make a scan of all of
#: them, and they change faster than any statistics.
HAS_SLOT = f"""(
    (SELECT count(*) FROM llm_generation_job j
     WHERE j.provider_id = q.provider_id AND j.state = 'running')
    + {HELD.format(provider="q.provider_id")} < q.max_concurrent_jobs)
"""
HAS_JOB = f"""(
    (SELECT 1 FROM llm_generation_job j
     WHERE j.provider_id = q.provider_id AND {READY.sql("j")}
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
        EXISTS (SELECT FROM llm_generation_bucket b WHERE b.queue_id = q.id),
        COALESCE(q.requests_per_minute, 0), COALESCE(q.tokens_per_minute, 0), q.job_timeout,
        (SELECT COALESCE(json_agg(json_build_array(o.provider_id, o.max_concurrent_jobs)), '[]')
         FROM llm_generation_queue o JOIN llm_generation_bucket b ON b.queue_id = o.id
         WHERE o.enabled AND o.id <> q.id AND b.processed_at > {NOW} - interval '1 hour')
    FROM llm_generation_queue q
    JOIN llm_provider p ON p.id = q.provider_id AND p.active
    WHERE q.id = %s AND q.enabled AND (q.paused_until IS NULL OR q.paused_until <= {NOW})
    FOR NO KEY UPDATE OF q SKIP LOCKED
"""

#: Once in the life of a queue: each insertion takes a number of a sequence, also in vain.
OPEN_BUCKET = f"""
    INSERT INTO llm_generation_bucket (queue_id, request_level, token_level, filled_at)
    VALUES (%s, 0, 0, {NOW} - interval '1 minute')
    ON CONFLICT (queue_id) DO NOTHING
"""

READ_BUCKET = f"""
    SELECT request_level, token_level, EXTRACT(EPOCH FROM {NOW} - filled_at)
    FROM llm_generation_bucket WHERE queue_id = %s
    FOR NO KEY UPDATE
"""

#: What was estimated at the claim is replaced by what was used.
SETTLE_BUCKET = """
    UPDATE llm_generation_bucket b
    SET token_level = b.token_level + %(difference)s
    FROM llm_generation_queue q
    WHERE b.queue_id = q.id AND q.provider_id = %(provider)s AND q.tokens_per_minute > 0
"""

#: Whether another question of the thread was asked of the same provider before that of a job `j`,
#: with no worse priority, and waits or is being answered: it is answered first. What only its
#: inputs ask, and pictures and the like, are made side by side: they are no conversation.
EARLIER = f"""llm_generation_job e
                WHERE e.thread_id = j.thread_id AND e.provider_id = j.provider_id
                  AND e.id < j.id AND e.priority <= j.priority
                  AND e.input_message_id IS NOT NULL
                  AND (e.state = 'running' OR ({READY.sql("e")})
                       OR ({WAITS_FOR_THREAD.sql("e")}))"""
BEHIND_OTHERS = f"""(
        j.input_message_id IS NOT NULL AND EXISTS (SELECT FROM {EARLIER})
        AND NOT EXISTS (SELECT FROM llm_model m
                        WHERE m.id = j.model_id AND m.model_use = ANY(ARRAY{list(MEDIA_USES)})))"""

#: queued -> running. Takes the head of the queue, up to the free slots, those of models with a
#: limit of their own, and the tokens of the bucket; notes what is left of it for others.
CLAIM = f"""
    WITH free AS (
        SELECT LEAST(
            %(slots)s, %(limit)s - count(*) - {HELD.format(provider="%(provider)s")}) AS slots
        FROM llm_generation_job
        WHERE provider_id = %(provider)s AND state = 'running'
    ), limited AS MATERIALIZED (
        SELECT l.model_id, l.max_concurrent_jobs - (
            SELECT count(*) FROM llm_generation_job j
            WHERE j.provider_id = %(provider)s AND j.state = 'running'
              AND j.model_id = l.model_id)
            - {HELD.format(provider="%(provider)s AND h.model_id = l.model_id")} AS slots
        FROM llm_generation_model_limit l
        WHERE l.queue_id = %(queue)s
    ), head AS MATERIALIZED (
        SELECT id, priority, fair_rank, queued_at, estimated_tokens, attempt_count, model_id
        FROM llm_generation_job j
        WHERE provider_id = %(provider)s AND {READY.sql()}
          AND model_id <> ALL (ARRAY(
              SELECT model_id FROM limited WHERE slots <= 0
              UNION ALL
              SELECT model_id FROM llm_generation_model_pause
              WHERE queue_id = %(queue)s AND paused_until > {NOW}))
          AND NOT {BEHIND_OTHERS}
        ORDER BY priority, fair_rank, queued_at, id
        LIMIT (SELECT GREATEST(slots, 0) FROM free)
        FOR NO KEY UPDATE SKIP LOCKED
    ), affordable AS (
        SELECT id, attempt_count, model_id,
            SUM(estimated_tokens) OVER (
                ORDER BY priority, fair_rank, queued_at, id
                ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING) AS spent,
            row_number() OVER (
                PARTITION BY model_id ORDER BY priority, fair_rank, queued_at, id) AS nth_of_model
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
        UPDATE llm_generation_bucket b
        SET request_level = %(request_level)s - taken.jobs,
            token_level = %(token_level)s - taken.tokens,
            filled_at = {NOW}, processed_at = {NOW}
        FROM (SELECT count(*) AS jobs, COALESCE(sum(head.estimated_tokens), 0) AS tokens
              FROM attempt JOIN head ON head.id = attempt.job_id) taken
        WHERE b.queue_id = %(queue)s AND taken.jobs > 0
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
        polled_until = NULL,
        result_expires_at = NULL,
        poll_requested = FALSE
    FROM attempt
    WHERE j.id = attempt.job_id
    RETURNING j.id, attempt.id, (SELECT active FROM res_users u WHERE u.id = j.user_id),
        j.estimated_tokens
"""

#: Somebody else than the call itself ends these attempts: their slots stay taken until the call has
#: ended, or for as long as a call may take.
HOLD_SLOTS = f"""
    INSERT INTO llm_generation_held_slot (token, provider_id, model_id, runner_id, until)
    SELECT a.id, j.provider_id, j.model_id, a.runner_id,
        {NOW} + make_interval(secs => CASE WHEN q.job_timeout > 0
            THEN GREATEST(q.job_timeout, %(shortest)s) ELSE %(longest)s END)
    FROM llm_generation_job j
    JOIN llm_generation_attempt a ON a.id = j.attempt_token AND a.outcome = 'running'
    JOIN llm_generation_queue q ON q.provider_id = j.provider_id
    WHERE j.id = ANY(%(jobs)s)
    ON CONFLICT (token) DO NOTHING
"""

#: In the order of the ids, as SHORTEN_HOLDS: two that wait for each other's rows cannot be.
RELEASE_SLOTS = """
    DELETE FROM llm_generation_held_slot h
    WHERE h.id IN (
        SELECT id FROM llm_generation_held_slot WHERE token = ANY(%(tokens)s)
        ORDER BY id FOR UPDATE)
    RETURNING (SELECT q.id FROM llm_generation_queue q WHERE q.provider_id = h.provider_id)
"""

#: The same for those that were held long enough; who frees one just now is not waited for.
RELEASE_OLD = f"""
    DELETE FROM llm_generation_held_slot h
    WHERE h.id IN (
        SELECT id FROM llm_generation_held_slot WHERE until <= {NOW} FOR UPDATE SKIP LOCKED)
    RETURNING (SELECT q.id FROM llm_generation_queue q WHERE q.provider_id = h.provider_id)
"""

#: The process is gone, or as good as gone: its connections end with it.
SHORTEN_HOLDS = f"""
    UPDATE llm_generation_held_slot
    SET until = LEAST(until, {NOW} + make_interval(secs => %(seconds)s))
    WHERE id IN (
        SELECT id FROM llm_generation_held_slot WHERE runner_id = ANY(%(runners)s)
        ORDER BY id FOR UPDATE)
"""

#: What a provider may run though its job was given up: whether it still does.
HELD_AT_PROVIDER = f"""
    UPDATE llm_generation_held_slot h SET asked_at = {NOW}
    FROM llm_generation_attempt a
    WHERE a.id = h.token AND h.id IN (
        SELECT h.id FROM llm_generation_held_slot h
        JOIN llm_generation_attempt a ON a.id = h.token AND a.external_job_id <> ''
        WHERE h.until > {NOW}
          AND (h.asked_at IS NULL OR h.asked_at <= {NOW} - make_interval(secs => %(pause)s))
        ORDER BY h.asked_at NULLS FIRST LIMIT %(limit)s
        FOR UPDATE OF h SKIP LOCKED)
    RETURNING h.token, a.job_id, a.external_job_id
"""

#: The provider says that it goes on; a call that is older than a day is believed no more.
KEEP_HOLD = f"""
    UPDATE llm_generation_held_slot h
    SET until = GREATEST(h.until, {NOW} + make_interval(secs => %(seconds)s))
    FROM llm_generation_attempt a
    WHERE a.id = h.token AND h.token = %(token)s AND a.started_at > {NOW} - interval '1 day'
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
#: The fence of a single attempt in the middle of its answer. The message of the answer is written
#: after it: whoever ends the job locks in this order, too.
LOCK_JOB = """
    SELECT output_message_id FROM llm_generation_job
    WHERE id = %s AND COALESCE(attempt_token, 0) = %s AND state = 'running'
    FOR NO KEY UPDATE
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
    SET external_job_id = %(external)s, cancel_requested = state IN ('cancelled', 'failed'),
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

#: Who has a row just now is not waited for: the next answer says so, too.
PROVIDERS_WORK = f"""
    WITH working AS (
        DELETE FROM llm_generation_model_pause WHERE id IN (
            SELECT id FROM llm_generation_model_pause
            WHERE model_id = ANY(%(models)s) AND paused_until <= {NOW}
            FOR UPDATE SKIP LOCKED))
    UPDATE llm_generation_queue
    SET refused_by = NULL, stopped_since = NULL, stopped_words = NULL
    WHERE id IN (
        SELECT id FROM llm_generation_queue
        WHERE provider_id = ANY(%(providers)s) AND refused_by IS NOT NULL
        FOR NO KEY UPDATE SKIP LOCKED)
"""

#: A longer pause is never shortened. Returns by what the model was refused before.
PAUSE_MODEL = f"""
    INSERT INTO llm_generation_model_pause AS p
        (queue_id, model_id, paused_until, refused_by, stopped_since, stopped_words)
    VALUES (%(queue)s, %(model)s, %(until)s, %(refusal)s, {NOW}, %(words)s)
    ON CONFLICT (queue_id, model_id) DO UPDATE
    SET paused_until = GREATEST(p.paused_until, EXCLUDED.paused_until),
        stopped_since = CASE WHEN p.refused_by IS NOT NULL OR p.paused_until > {NOW}
            THEN COALESCE(p.stopped_since, EXCLUDED.stopped_since)
            ELSE EXCLUDED.stopped_since END,
        stopped_words = COALESCE(EXCLUDED.stopped_words, p.stopped_words),
        refused_by = COALESCE(EXCLUDED.refused_by, p.refused_by)
    RETURNING (SELECT refused_by FROM llm_generation_model_pause WHERE id = p.id)
"""

#: A running job that is given back goes behind what is next in line, each time by more turns: in
#: its old place it would be the next again, whatever it meets.
TAKE_NEW_TURN = f"""
    UPDATE llm_generation_job j
    SET fair_rank = 1 + j.attempt_count + GREATEST(
        (SELECT max(o.fair_rank) FROM llm_generation_job o WHERE o.state = 'running'
         AND o.provider_id = j.provider_id AND o.priority = j.priority),
        (SELECT min(o.fair_rank) FROM llm_generation_job o WHERE {READY.sql("o")}
         AND o.provider_id = j.provider_id AND o.priority = j.priority))
    WHERE j.id = %s
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

#: draft, failed -> queued, or queued elsewhere -> queued here. Takes the turn of each job: one
#: after the turn that runs now, or after the user's own last one. A user's thousand jobs take a
#: thousand turns, another's single job the next one. `last` is materialized, or it would be looked
#: up again for each job, among all those that were just moved. The jobs are locked first, so that
#: the update finds each by its id alone: with their state, which the statistics take for rare, it
#: would compare each of a thousand with all others.
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
                (SELECT max(j.fair_rank) FROM llm_generation_job j WHERE j.state = 'running'
                 AND j.provider_id = g.provider_id AND j.priority = g.priority),
                (SELECT min(j.fair_rank) - 1 FROM llm_generation_job j WHERE {READY.sql("j")}
                 AND j.provider_id = g.provider_id AND j.priority = g.priority),
                -1),
            COALESCE(
                (SELECT max(j.fair_rank) FROM llm_generation_job j WHERE j.state = 'queued'
                 AND j.provider_id = g.provider_id AND j.priority = g.priority
                 AND j.user_id = g.user_id),
                -1)) AS fair_rank
        FROM (SELECT DISTINCT provider_id, priority, user_id FROM wanted) g
    )
    UPDATE llm_generation_job j
    SET state = 'queued',
        fair_rank = last.fair_rank + numbered.n,
        is_scheduled = COALESCE(j.scheduled_at > {MOMENT}, FALSE),
        attempt_count = COALESCE(j.attempt_count, 0),
        attempt_base = CASE WHEN %(afresh)s THEN COALESCE(j.attempt_count, 0)
            ELSE COALESCE(j.attempt_base, 0) END,
        retry_count = CASE WHEN %(afresh)s THEN 0
            ELSE COALESCE(j.retry_count, 0) + (CASE WHEN j.state = 'failed' THEN 1 ELSE 0 END) END,
        estimated_tokens = {ESTIMATED_TOKENS},
        queued_at = {MOMENT},
        started_at = NULL,
        completed_at = NULL,
        finish_reason = NULL,
        retry_at = NULL
    FROM numbered JOIN last USING (provider_id, priority, user_id)
    WHERE j.id = numbered.id
    RETURNING j.id
"""

#: The next of the jobs that found their thread busy: another answer in it has just ended. One a
#: thread, as all the others would find it busy again.
SCHEDULE_BUSY = f"""
    UPDATE llm_generation_job SET is_scheduled = FALSE
    WHERE id IN (
        SELECT DISTINCT ON (thread_id) id FROM llm_generation_job
        WHERE thread_id IN (SELECT thread_id FROM llm_generation_job WHERE id = ANY(%s))
          AND {WAITS_FOR_THREAD.sql()}
        ORDER BY thread_id, priority, id)
      AND state = 'queued'
    RETURNING (SELECT q.id FROM llm_generation_queue q
               WHERE q.provider_id = llm_generation_job.provider_id)
"""

#: Returns the queues that have a free slot now, and whether a job found this thread busy: mostly
#: there is none. A job that posts nothing keeps no thread busy, and thousands may share one.
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
        j.post IS NOT FALSE AND EXISTS (SELECT FROM llm_generation_job other
                WHERE other.thread_id = j.thread_id AND {WAITS_FOR_THREAD.sql("other")})
"""


# === MAINTAIN: What is due by the clock, and what becomes of jobs whose process is gone.

#: Scheduled jobs whose time has come join the line.
SCHEDULE = f"""
    UPDATE llm_generation_job SET is_scheduled = FALSE
    WHERE id IN (
        SELECT id FROM llm_generation_job
        WHERE {SCHEDULED.sql()} AND scheduled_at <= {NOW} AND {DUE} <= {NOW}
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
         WHERE q.enabled AND q.paused_until > {NOW} - interval '0.5 seconds'),
        (SELECT min(p.paused_until) FROM llm_generation_model_pause p
         JOIN llm_generation_queue q ON q.id = p.queue_id
         CROSS JOIN LATERAL (
             SELECT FROM llm_generation_job j
             WHERE j.provider_id = q.provider_id AND j.state = 'queued' LIMIT 1) waiting
         WHERE q.enabled AND p.paused_until > {NOW} - interval '0.5 seconds')
    ) - {NOW})
"""

#: How long one who asks about a job keeps others from asking, unless it says that it still does.
POLL_LEASE = "interval '30 seconds'"

HINTED_AT = f"""
            CASE WHEN hinted_at > {NOW} THEN hinted_at
                ELSE GREATEST(date_trunc('second', {NOW}),
                    hinted_at + make_interval(secs => %(pause)s)) END"""

IS_DUE_POLL = f"""
        {AT_PROVIDER.sql()} AND ((next_poll_at <= {NOW} AND {DUE} <= {NOW}
            AND (polled_until IS NULL OR polled_until <= {NOW})) OR %(now)s)"""

#: External jobs to ask about: what the provider forgets first comes first, the providers taking
#: turns; who keeps many of our threads waiting gets few of the others. Nobody else asks about them
#: until the answer is there, or who asked is gone. A subquery in the place of `due` might be
#: executed more than once, each time with other rows: the limit would not hold.
CLAIM_POLLS = f"""
    WITH turns AS MATERIALIZED (
        SELECT id, provider_id, row_number() OVER (
            PARTITION BY provider_id ORDER BY result_expires_at NULLS LAST, next_poll_at) AS nth
        FROM llm_generation_job WHERE {IS_DUE_POLL}
    ), due AS MATERIALIZED (
        SELECT j.id FROM llm_generation_job j JOIN turns USING (id)
        WHERE {IS_DUE_POLL}
          AND turns.nth <= (%(share)s + 1 - (
              SELECT count(*) FROM unnest(%(busy)s::int[]) AS busy (id)
              WHERE busy.id = j.provider_id)) / 2
        ORDER BY turns.nth, j.result_expires_at NULLS LAST, j.next_poll_at
        LIMIT %(limit)s
        FOR NO KEY UPDATE OF j SKIP LOCKED
    )
    UPDATE llm_generation_job j
    SET next_poll_at = {NOW} + {POLL_LEASE}, polled_until = {NOW} + {POLL_LEASE},
        poll_requested = FALSE
    FROM due
    WHERE j.id = due.id
    RETURNING j.id, j.attempt_token, j.provider_id
"""

#: Who asks about these lives, and has no answer yet.
RENEW_POLLS = f"""
    UPDATE llm_generation_job
    SET next_poll_at = {NOW} + {POLL_LEASE}, polled_until = {NOW} + {POLL_LEASE}
    WHERE id = ANY(%(jobs)s) AND attempt_token = ANY(%(tokens)s) AND state = 'running'
"""

#: A webhook: the job is to be asked about now, or once a pause since the last webhook's question
#: is over. `hinted_at` is when that question was, or will be.
HINT = f"""
    UPDATE llm_generation_job
    SET poll_requested = TRUE,
        next_poll_at = LEAST(next_poll_at, GREATEST({HINTED_AT}, polled_until)),
        hinted_at = {HINTED_AT}
    WHERE id = %(job)s AND COALESCE(attempt_token, 0) = %(token)s AND state = 'running'
    RETURNING id
"""

#: A question that somebody brings about who calls `check_status()`: one a pause, those of webhooks
#: counted. Who changes the job just now, which may be the caller, is not waited for.
CLAIM_QUESTION = f"""
    UPDATE llm_generation_job
    SET hinted_at = date_trunc('second', {NOW}), polled_until = {NOW} + {POLL_LEASE}
    WHERE id = (
        SELECT id FROM llm_generation_job
        WHERE id = %(job)s AND COALESCE(attempt_token, 0) = %(token)s AND state = 'running'
          AND (hinted_at IS NULL OR hinted_at <= {NOW} - make_interval(secs => %(pause)s))
          AND (polled_until IS NULL OR polled_until <= {NOW})
        FOR NO KEY UPDATE SKIP LOCKED)
    RETURNING id
"""

DUE_RETRIES = f"""
    SELECT j.id FROM llm_generation_job j
    WHERE {RETRYING.sql()} AND retry_at <= {NOW} AND {DUE} <= {NOW}
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
      AND (NOT ({AT_PROVIDER.sql("j")})
        OR j.asked_at >= j.started_at + make_interval(secs => q.job_timeout))
    LIMIT 500
    FOR NO KEY UPDATE OF j SKIP LOCKED
"""

#: Whose provider is to be told that they were cancelled, the providers taking turns. Nobody else
#: tells it meanwhile; unless it has confirmed by then, whoever comes next does.
CANCELLED_AT_PROVIDER = f"""
    WITH turns AS MATERIALIZED (
        SELECT id, row_number() OVER (PARTITION BY provider_id ORDER BY {DUE}) AS nth
        FROM llm_generation_job WHERE cancel_requested IS TRUE AND {DUE} <= {NOW}
    ), due AS MATERIALIZED (
        SELECT j.id FROM llm_generation_job j JOIN turns USING (id)
        WHERE cancel_requested IS TRUE AND {DUE} <= {NOW}
        ORDER BY turns.nth, {DUE} LIMIT %(limit)s
        FOR NO KEY UPDATE OF j SKIP LOCKED
    )
    UPDATE llm_generation_job j SET cancel_again_at = {NOW} + make_interval(secs => %(lease)s)
    FROM due WHERE j.id = due.id
    RETURNING j.id
"""

#: The provider has confirmed, or will not: it is told no more.
CANCEL_ENDED = """
    UPDATE llm_generation_job SET cancel_requested = FALSE, cancel_again_at = NULL
    WHERE id = %(job)s AND COALESCE(external_job_id, '') = %(external)s
"""

#: The last ones first, as the index has them: claims begin at the head.
WAITING = """
    SELECT id FROM llm_generation_job
    WHERE provider_id = %(provider)s AND state = 'queued'
        AND (%(companies)s::int[] IS NULL OR company_id = ANY(%(companies)s))
    ORDER BY priority DESC, user_id DESC, fair_rank DESC LIMIT %(limit)s
    FOR NO KEY UPDATE SKIP LOCKED
"""

PROVIDERS = "SELECT id FROM llm_provider ORDER BY id"

#: The jobs of a provider that ended before a date, as far as nobody holds them: what is held is
#: none of the batch, or it would look as if nothing were left. Of some the provider has still to
#: be told, and some are tried again.
OLD_JOBS = f"""
    SELECT id FROM llm_generation_job
    WHERE provider_id = %(provider)s AND completed_at < %(limit)s
        AND cancel_requested IS NOT TRUE AND is_kept IS NOT TRUE AND NOT ({RETRYING.sql()})
    ORDER BY completed_at LIMIT %(batch)s
    FOR UPDATE SKIP LOCKED
"""

#: Running attempts whose process is gone: its heartbeat stopped and its session lock is free,
#: or its row is gone (a restored dump, a process that left without giving back).
ORPHANS = f"""
    SELECT j.id, {AT_PROVIDER.sql("j")}
    FROM llm_generation_job j
    LEFT JOIN llm_generation_attempt a ON a.id = j.attempt_token
    WHERE j.state = 'running'
      AND ((a.runner_id IS NULL AND NOT ({AT_PROVIDER.sql("j")})) OR a.runner_id = ANY(%s))
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

#: What versions the tables of modules are of, by the modules' names.
VERSIONS = """
    SELECT json_object_agg(name, latest_version) FROM ir_module_module
    WHERE name = ANY(%(modules)s)
"""

#: After a longer absence of the database everybody was silent: who lives gets time to say so.
SILENT_RUNNERS = f"""
    SELECT id, heartbeat_at < {NOW} - make_interval(secs => %(alone)s)
    FROM llm_generation_runner
    WHERE heartbeat_at < {NOW} - make_interval(secs => %(silence)s)
      AND NOT pg_postmaster_start_time() AT TIME ZONE 'UTC'
          BETWEEN {NOW} - make_interval(secs => %(silence)s) AND {NOW}
    FOR UPDATE SKIP LOCKED
"""

#: What somebody else holds is just being ended.
MOVE_CALLS = """
    WITH moved AS (
        UPDATE llm_generation_attempt SET runner_id = %(runner)s
        WHERE id IN (
            SELECT id FROM llm_generation_attempt
            WHERE runner_id = %(before)s AND outcome = 'running' FOR NO KEY UPDATE SKIP LOCKED)
    )
    UPDATE llm_generation_held_slot SET runner_id = %(runner)s
    WHERE id IN (
        SELECT id FROM llm_generation_held_slot
        WHERE runner_id = %(before)s FOR NO KEY UPDATE SKIP LOCKED)
"""

TRY_LIVENESS_LOCK = "SELECT pg_try_advisory_xact_lock(%s, %s)"

#: A session whose network has gone silent keeps its lock until its runner has stopped its calls,
#: whatever the server's configuration says.
LIVENESS_SESSION = """
    SET tcp_keepalives_idle = 60; SET tcp_keepalives_interval = 10; SET tcp_keepalives_count = 4;
    SET tcp_user_timeout = 100000
"""

#: One process at a time finds out whether the database is a copy. Before, and apart from, the
#: reading.
IDENTITY_LOCK = "SELECT pg_advisory_xact_lock(hashtext('llm_generation_identity'))"

#: Queues with work that the database which this one is a copy of may have done since.
HOLD_QUEUES = f"""
    UPDATE llm_generation_queue q SET enabled = FALSE, stopped_since = {NOW}
    WHERE enabled AND EXISTS (
        SELECT FROM llm_generation_job j
        WHERE j.provider_id = q.provider_id
          AND (j.state IN ('queued', 'running') OR ({RETRYING.sql("j")})))
    RETURNING id
"""

HEARTBEAT = f"UPDATE llm_generation_runner SET heartbeat_at = {NOW} WHERE id = %s RETURNING id"


# === FIGURES: Places and figures of the queues.

#: The runners whose heartbeat has not stopped.
ALIVE = f"""llm_generation_runner
            WHERE heartbeat_at > {NOW} - make_interval(secs => %(silence)s)"""

POSITIONS = f"""
    SELECT j.id, 1 + (
        SELECT count(*) FROM (
            SELECT FROM llm_generation_job o
            WHERE o.provider_id = j.provider_id AND {READY.sql("o")}
              AND (o.priority, o.fair_rank, o.queued_at, o.id)
                  < (j.priority, j.fair_rank, j.queued_at, j.id)
            LIMIT 9999) ahead) AS place
    FROM llm_generation_job j
    WHERE j.id = ANY(%s) AND {READY.sql("j")}
"""

#: What may keep waiting jobs from being claimed: the conditions of READY_QUEUES and CLAIM.
WAITS = f"""
    SELECT j.id, {SCHEDULED.sql("j")} AS is_scheduled, q.enabled, p.active, q.refused_by,
        CASE WHEN q.paused_until > {NOW} THEN q.paused_until END AS paused_until,
        CASE WHEN {BEHIND_OTHERS} THEN (SELECT count(*) FROM {EARLIER}) ELSE 0 END AS earlier,
        pause.refused_by AS model_refused_by, pause.paused_until AS model_paused_until,
        q.max_concurrent_jobs AS slots, {HAS_SLOT} AS has_slot,
        l.max_concurrent_jobs AS model_slots,
        (SELECT count(*) FROM llm_generation_job o
         WHERE o.provider_id = j.provider_id AND o.state = 'running' AND o.model_id = j.model_id)
            + {HELD.format(provider="j.provider_id AND h.model_id = j.model_id")} AS model_running,
        COALESCE(q.requests_per_minute, 0) AS requests, b.request_level,
        COALESCE(q.tokens_per_minute, 0) AS tokens, b.token_level,
        EXTRACT(EPOCH FROM {NOW} - b.filled_at)::float AS elapsed,
        EXTRACT(EPOCH FROM {NOW} - j.queued_at)::float AS waited,
        EXISTS (SELECT FROM {ALIVE}) AS has_runner
    FROM llm_generation_job j
    JOIN llm_generation_queue q ON q.provider_id = j.provider_id
    JOIN llm_provider p ON p.id = j.provider_id
    LEFT JOIN llm_generation_bucket b ON b.queue_id = q.id
    LEFT JOIN llm_generation_model_limit l ON l.queue_id = q.id AND l.model_id = j.model_id
    LEFT JOIN llm_generation_model_pause pause
        ON pause.queue_id = q.id AND pause.model_id = j.model_id AND pause.paused_until > {NOW}
    WHERE j.id = ANY(%(jobs)s) AND j.state = 'queued'
"""

#: How fast a queue works: its newest jobs' run times, and what may hold it up.
PACE = f"""
    SELECT count(duration) AS measured, avg(duration) AS seconds,
        (SELECT count(*) FROM llm_generation_job
         WHERE provider_id = %(provider)s AND state = 'running') AS running,
        EXISTS (SELECT FROM llm_generation_model_pause
                WHERE queue_id = %(queue)s AND paused_until > {NOW}) AS paused_models,
        EXISTS (SELECT FROM {ALIVE}) AS has_runner
    FROM (
        SELECT duration FROM llm_generation_job
        WHERE provider_id = %(provider)s AND completed_at > {NOW} - interval '1 day'
            AND state IN ('completed', 'failed') AND duration > 0
        ORDER BY completed_at DESC LIMIT 50) newest
"""

#: The jobs, of those that are searched, whose question or answer has some words. What is said in a
#: conversation is read by who may read that. OFFSET keeps PostgreSQL from looking for the words in
#: all messages there are before it knows which are meant.
SAYING = """
    WITH newest AS MATERIALIZED (%(newest)s), mine AS MATERIALIZED (
        SELECT * FROM newest WHERE thread_id IN %(threads)s
    ), said AS (
        SELECT id, input_message_id AS message_id FROM mine
        UNION ALL SELECT id, output_message_id FROM mine
    )
    SELECT id FROM (
        SELECT said.id, m.res_id, COALESCE(m.llm_source, m.body) AS words
        FROM said JOIN mail_message m ON m.id = said.message_id
        WHERE m.model = 'llm.thread' OFFSET 0
    ) one WHERE words ILIKE %(words)s AND res_id IN %(threads)s
    UNION
    SELECT id FROM (
        SELECT j.id, j.output, j.generation_inputs ->> 'prompt' AS prompt
        FROM mine JOIN llm_generation_job j ON j.id = mine.id WHERE mine.post IS FALSE OFFSET 0
    ) one WHERE output ILIKE %(words)s OR prompt ILIKE %(words)s
"""

#: Put before a look at many jobs in a user's own transaction. PostgreSQL takes such a look for so
#: costly that it compiles it, each time, which lasts longer than the look.
UNCOMPILED = "SET LOCAL jit = off; "

#: The failures of the last hour of a queue of which many fail, see `_is_failing()`.
_FAILED_LATELY = """
    FROM llm_generation_job f
    WHERE f.provider_id = q.provider_id AND f.state = 'failed'
        AND f.completed_at > %(now)s::timestamp - interval '1 hour'
        AND ended.hour_finished >= 5 AND ended.hour_completed * 10 < ended.hour_finished * 9
"""

#: All figures of all queues in one statement. Each branch fits one index, and needs nothing else
#: but for the jobs of a later date.
#: What ended is counted in pieces of time whose jobs all count alike: hours, cut at midnight and
#: ten minutes ago. Each is one piece of `_statistics_idx` for each provider.
FIGURES = f"""
    WITH live AS (
        SELECT provider_id, '{READY.name}' AS state, count(*) AS n, min(queued_at) AS since,
            count(*) FILTER (WHERE queued_at > %(now)s::timestamp - interval '10 minutes') AS fresh
        FROM llm_generation_job
        WHERE {READY.sql()} AND provider_id = ANY(%(providers)s)
        GROUP BY provider_id
        UNION ALL
        SELECT provider_id, 'delayed', count(*), NULL, NULL FROM llm_generation_job
        WHERE {SCHEDULED.sql()} AND provider_id = ANY(%(providers)s)
        GROUP BY provider_id
        UNION ALL
        SELECT provider_id, 'running', count(*), NULL, NULL FROM llm_generation_job
        WHERE state = 'running' AND provider_id = ANY(%(providers)s) GROUP BY provider_id
        UNION ALL
        SELECT provider_id, 'held', count(*), NULL, NULL FROM llm_generation_held_slot
        WHERE until > {NOW} AND provider_id = ANY(%(providers)s) GROUP BY provider_id
        UNION ALL
        SELECT provider_id, 'draft', count(*), NULL, NULL FROM llm_generation_job
        WHERE state = 'draft' AND provider_id = ANY(%(providers)s) GROUP BY provider_id
    ), lived AS (
        SELECT provider_id, json_object_agg(state, n) AS counts, min(since) AS waiting_since,
            max(fresh) AS came_lately
        FROM live GROUP BY provider_id
    ), cuts AS (
        SELECT %(now)s::timestamp - n * interval '1 hour' AS begins FROM generate_series(1, 24) n
        UNION SELECT GREATEST(%(midnight)s, %(now)s::timestamp - interval '1 day')
        UNION SELECT %(now)s::timestamp - interval '10 minutes'
    ), pieces AS (
        SELECT begins, COALESCE(lead(begins) OVER (ORDER BY begins), 'infinity') AS ends,
            ceil(EXTRACT(EPOCH FROM %(now)s::timestamp - begins) / 3600) - 1 AS hour,
            begins >= %(midnight)s AS is_today,
            begins >= %(now)s::timestamp - interval '10 minutes' AS is_recent
        FROM cuts
    ), hours AS (
        SELECT p.provider_id, hour,
            sum(n - failed - cancelled) AS completed,
            sum(failed) AS failed,
            sum(cancelled) AS cancelled,
            sum(n) FILTER (WHERE is_today) AS today,
            sum(tokens) FILTER (WHERE is_today) AS tokens_today,
            sum(n) FILTER (WHERE is_recent) AS ended_lately,
            sum(waits) AS waits, sum(waited) AS waited, sum(runs) AS runs, sum(ran) AS ran
        FROM unnest(%(providers)s::int[]) AS p(provider_id) CROSS JOIN pieces CROSS JOIN LATERAL (
            SELECT count(*) AS n,
                count(*) FILTER (WHERE state = 'failed') AS failed,
                count(*) FILTER (WHERE state = 'cancelled') AS cancelled,
                COALESCE(sum(prompt_tokens), 0) + COALESCE(sum(completion_tokens), 0) AS tokens,
                sum(queue_duration) FILTER (WHERE state <> 'cancelled') AS waits,
                count(*) FILTER (WHERE queue_duration > 0 AND state <> 'cancelled') AS waited,
                sum(duration) FILTER (WHERE state <> 'cancelled') AS runs,
                count(*) FILTER (WHERE duration > 0 AND state <> 'cancelled') AS ran
            FROM llm_generation_job
            WHERE provider_id = p.provider_id AND completed_at >= begins AND completed_at < ends
        ) piece
        GROUP BY p.provider_id, hour
    ), ended AS (
        SELECT provider_id,
            sum(completed) AS completed,
            sum(failed) AS failed,
            sum(cancelled) AS cancelled,
            sum(today) AS today,
            sum(tokens_today) AS tokens_today,
            sum(completed) FILTER (WHERE hour = 0) AS hour_completed,
            sum(completed + failed) FILTER (WHERE hour = 0) AS hour_finished,
            sum(ended_lately) AS ended_lately,
            sum(waits) / NULLIF(sum(waited), 0) AS avg_queue_time,
            sum(runs) / NULLIF(sum(ran), 0) AS avg_processing_time,
            json_agg(json_build_array(completed, failed) ORDER BY hour DESC) AS by_hour
        FROM hours GROUP BY provider_id
    )
    SELECT q.id AS queue_id, b.processed_at AS last_processed_at, lived.*, ended.*,
        retry.can IS TRUE AS retriable,
        (SELECT json_agg(json_build_array(m.name, p.refused_by, p.stopped_since, p.stopped_words)
             ORDER BY p.refused_by, m.name)
         FROM llm_generation_model_pause p JOIN llm_model m ON m.id = p.model_id
         WHERE p.queue_id = q.id AND p.paused_until > {NOW}) AS paused_models,
        (SELECT min(f.completed_at) {_FAILED_LATELY}) AS failing_since,
        -- Where many fail, the newest of them is found at once.
        (SELECT f.error_message {_FAILED_LATELY}
             AND (%(companies)s::int[] IS NULL OR f.company_id = ANY(%(companies)s))
         ORDER BY f.completed_at DESC LIMIT 1) AS failing_words,
        EXISTS (SELECT FROM {ALIVE}) AS has_runner,
        EXISTS (SELECT FROM {ALIVE} AND is_deaf) AS is_deaf,
        ({VERSIONS}) AS versions
    FROM llm_generation_queue q
    LEFT JOIN llm_generation_bucket b ON b.queue_id = q.id
    LEFT JOIN lived ON lived.provider_id = q.provider_id
    LEFT JOIN ended ON ended.provider_id = q.provider_id
    -- One look for each queue: as EXISTS, all that failed would be compared with all that lives.
    LEFT JOIN LATERAL (
        SELECT TRUE AS can FROM llm_generation_job j
        WHERE j.provider_id = q.provider_id AND j.state = 'failed'
            AND j.error_type IS DISTINCT FROM '{HOPELESS[0]}'
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
