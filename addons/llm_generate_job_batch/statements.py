"""When the work of a batch of jobs is done, and which jobs wait: for idle queues, or for others."""

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

#: An economy job that never started. One that is tried again waits for its time like any other,
#: and what waits for a provider's batch for that.
SAVING = f"""
    {SCHEDULED.sql()} AND is_economy IS TRUE AND batch_lane IS NOT TRUE
    AND COALESCE(attempt_count, 0) = 0"""

#: What a model of a queue is paused for waits, and keeps nobody else from the slots.
PAUSED_MODELS = f"""ARRAY(
                SELECT model_id FROM llm_generation_model_pause
                WHERE queue_id = {{queue}} AND paused_until > {NOW})"""
#: Whether a queue `q` has a job of a model that is not paused, in the first thousand of some: a
#: hundred thousand of a paused one are not walked each time.
HAS_ANY = f"""(
            SELECT FROM (
                SELECT model_id FROM llm_generation_job
                WHERE provider_id = q.provider_id AND {{condition}} LIMIT 1000) first
            WHERE model_id <> ALL ({PAUSED_MODELS.format(queue="q.id")}) LIMIT 1)"""

#: Queues with economy jobs and nothing else to start, of whose slots fewer than half are used; and
#: how many are left of that half. As for those that are ready, one look into an index for each.
IDLE = f"""
    SELECT * FROM (
        SELECT q.id, q.provider_id, GREATEST(q.max_concurrent_jobs / 2, 1) - (
            SELECT count(*) FROM llm_generation_job
            WHERE provider_id = q.provider_id AND state = 'running') AS slots
        FROM llm_generation_queue q
        CROSS JOIN LATERAL {HAS_ANY.format(condition=SAVING)} saving
        WHERE q.enabled AND (q.paused_until IS NULL OR q.paused_until <= {NOW})
          AND NOT EXISTS {HAS_ANY.format(condition=READY.sql())}
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
              AND model_id <> ALL ({PAUSED_MODELS.format(queue="idle.id")})
            ORDER BY priority, fair_rank, queued_at, id LIMIT idle.slots
            FOR NO KEY UPDATE SKIP LOCKED) job)
    UPDATE llm_generation_job j SET is_scheduled = FALSE, latest_at = scheduled_at
    FROM chosen WHERE j.id = chosen.id
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


# === BATCHES OF PROVIDERS === #
# A job that waits for one, or is in one, is `queued`, with the date at which it runs in any case:
# no claim finds it before, and it takes no slot.

#: What an index has of them.
IN_LANE = "batch_lane IS TRUE AND state = 'queued'"
#: Waits for a batch, or for the answer of the one that it is in.
LANE = f"{SCHEDULED.sql('j')} AND j.batch_lane IS TRUE"
#: The same, also for one in line, as its date has come or somebody started it: until it is asked
#: by itself, what its batch answers is its answer.
UNASKED = "j.state = 'queued' AND j.batch_lane IS TRUE"
GATHERS = f"{LANE} AND j.provider_batch_id IS NULL AND COALESCE(j.attempt_count, 0) = 0"

#: The estimated tokens that a provider has in batches of a model, whoever still waits for them.
AT_WORK = """(
    SELECT COALESCE(sum(j.estimated_tokens), 0)
    FROM llm_generation_provider_batch b JOIN llm_generation_job j ON j.provider_batch_id = b.id
    WHERE b.next_step_at IS NOT NULL AND b.provider_id = q.provider_id AND b.model_id = {model})
"""

#: The queues, and models, with enough jobs for a batch, or one that has waited long enough; and
#: for how many tokens there is room, NULL for any number.
GATHERED = f"""
    SELECT q.provider_id, gathered.model_id, q.batch_jobs,
        CASE WHEN q.batch_tokens > 0
            THEN q.batch_tokens - {AT_WORK.format(model="gathered.model_id")} END AS room
    FROM llm_generation_queue q
    JOIN llm_provider p ON p.id = q.provider_id AND p.active
    CROSS JOIN LATERAL (
        SELECT j.model_id, count(*) AS jobs, min(j.queued_at) AS first,
            sum(j.estimated_tokens) AS tokens
        FROM llm_generation_job j
        WHERE j.provider_id = q.provider_id AND {GATHERS}
        GROUP BY j.model_id) gathered
    WHERE q.uses_batches AND q.enabled
      AND (q.paused_until IS NULL OR q.paused_until <= {NOW})
      AND NOT EXISTS (
        SELECT FROM llm_generation_provider_batch b
        WHERE b.provider_id = q.provider_id AND b.model_id = gathered.model_id
          AND b.pauses_until > {NOW})
      AND NOT EXISTS (
        SELECT FROM llm_generation_model_pause m
        WHERE m.queue_id = q.id AND m.model_id = gathered.model_id AND m.paused_until > {NOW})
      AND (gathered.jobs >= q.batch_jobs
        OR gathered.first <= {NOW} - make_interval(mins => q.batch_minutes)
        OR (q.batch_tokens > 0 AND gathered.tokens >= q.batch_tokens))
      AND (q.batch_tokens = 0
        OR q.batch_tokens > {AT_WORK.format(model="gathered.model_id")})
"""

#: One process at a time fills batches: the room for tokens is counted before.
FILL_LOCK = "SELECT pg_try_advisory_xact_lock(hashtext('llm_generation_provider_batch'))"

#: Puts the first of the jobs that gather into a batch: as many as it takes, the first whatever
#: its tokens.
FILL = f"""
    WITH first AS MATERIALIZED (
        SELECT id, estimated_tokens, priority, queued_at FROM llm_generation_job j
        WHERE provider_id = %(provider)s AND model_id = %(model)s AND {GATHERS}
        ORDER BY priority, queued_at, id LIMIT %(jobs)s
        FOR NO KEY UPDATE SKIP LOCKED
    ), counted AS (
        SELECT id, sum(estimated_tokens) OVER line AS tokens, row_number() OVER line AS number
        FROM first WINDOW line AS (ORDER BY priority, queued_at, id)
    )
    UPDATE llm_generation_job j SET provider_batch_id = %(batch)s
    FROM counted
    WHERE j.id = counted.id
      AND (number = 1 OR %(room)s::bigint IS NULL OR counted.tokens <= %(room)s)
    RETURNING j.id, j.scheduled_at
"""

#: Would be late, or came into the lane of a queue that was just switched off.
LEAVES = f"""
    {LANE} AND j.provider_batch_id IS NULL
    AND (j.scheduled_at <= {NOW} + make_interval(secs => %(seconds)s)
        OR NOT EXISTS (
            SELECT FROM llm_generation_queue q
            WHERE q.provider_id = j.provider_id AND q.uses_batches))
"""
#: Jobs leave the lane before they are in a batch.
LEAVE_LANE = f"""
    UPDATE llm_generation_job j SET batch_lane = FALSE
    WHERE id IN (
        SELECT id FROM llm_generation_job j WHERE {LEAVES}
        FOR NO KEY UPDATE SKIP LOCKED)
    RETURNING j.id
"""
ANY_LEAVES = f"SELECT 1 FROM llm_generation_job j WHERE {LEAVES} LIMIT 1"

STEP_AT = "GREATEST(next_step_at, leased_until)"
#: How many batches of the provider of batch `b` some process is doing something with.
STEPPING = f"""(
    SELECT count(*) FROM llm_generation_provider_batch o
    WHERE o.provider_id = b.provider_id AND o.leased_until > {NOW})
"""
#: When the next step is due. Of a provider that has its share already, the end of one wakes us.
NEXT_STEP = f"""
    SELECT EXTRACT(EPOCH FROM min({STEP_AT}) - {NOW}) FROM llm_generation_provider_batch b
    WHERE next_step_at IS NOT NULL AND ({STEP_AT} > {NOW} OR {STEPPING} < %(most)s)
"""

#: Takes batches with which something is to be done now. `step` is the fence: who comes back after
#: its lease finds that another has taken the next step. The state says from here on that the
#: provider may have been given the batch. One provider, which may be slow, takes no more than its
#: share: two processes that look at once may give it twice as much.
CLAIM_STEPS = f"""
    WITH turns AS (
        SELECT id, {STEPPING} + row_number() OVER (
            PARTITION BY provider_id ORDER BY {STEP_AT}, id) AS place
        FROM llm_generation_provider_batch b
        WHERE next_step_at IS NOT NULL AND {STEP_AT} <= {NOW}
    ), due AS MATERIALIZED (
        SELECT id, state FROM llm_generation_provider_batch
        WHERE id IN (SELECT id FROM turns WHERE place <= %(most)s)
          AND next_step_at IS NOT NULL AND {STEP_AT} <= {NOW}
        ORDER BY {STEP_AT} LIMIT %(limit)s
        FOR NO KEY UPDATE SKIP LOCKED)
    UPDATE llm_generation_provider_batch b
    SET step = COALESCE(b.step, 0) + 1,
        leased_until = {NOW} + make_interval(secs => %(lease)s),
        state = CASE due.state WHEN 'collected' THEN 'submitting' ELSE due.state END
    FROM due WHERE b.id = due.id
    RETURNING b.id, b.step, due.state
"""

STILL_OURS = """
    SELECT id FROM llm_generation_provider_batch
    WHERE id = %s AND step = %s AND next_step_at IS NOT NULL"""
LOCK_STEP = f"{STILL_OURS} FOR NO KEY UPDATE"

#: The jobs that wait for the answer of a batch, those that come first at their date first.
WAITING_IN = f"""
    SELECT j.id, j.scheduled_at FROM llm_generation_job j
    WHERE j.provider_batch_id = %s AND {LANE}
    ORDER BY j.scheduled_at, j.id
"""

#: The jobs that an answer of a batch would be for.
UNANSWERED = f"""
    SELECT j.id FROM llm_generation_job j WHERE j.provider_batch_id = %s AND {UNASKED}
"""

#: Batches that a job has left, which was the last one.
UNWANTED = f"""
    SELECT b.id FROM llm_generation_provider_batch b
    WHERE b.id = ANY(%s) AND NOT EXISTS (
        SELECT FROM llm_generation_job j WHERE j.provider_batch_id = b.id AND {LANE})
"""

#: Has batches looked at now.
HURRY = f"""
    UPDATE llm_generation_provider_batch SET next_step_at = {NOW}
    WHERE id IN (
        SELECT id FROM llm_generation_provider_batch
        WHERE id = ANY(%s) AND next_step_at > {NOW} FOR NO KEY UPDATE SKIP LOCKED)
    RETURNING id
"""

#: queued -> running, for as long as the transaction lasts that stores what a batch has brought. A
#: job that runs by itself, or has ended, is none of the batch any more; one that stands in line is
#: taken out of it, or claimed by whoever has its row first. It has neither waited for a slot nor
#: run in one: figures of both leave it out.
CLAIM_RESULTS = f"""
    WITH free AS MATERIALIZED (
        SELECT j.id, COALESCE(j.attempt_count, 0) AS attempts FROM llm_generation_job j
        WHERE j.id = ANY(%(jobs)s) AND j.provider_batch_id = %(batch)s AND {UNASKED}
        ORDER BY j.id
        FOR NO KEY UPDATE SKIP LOCKED
    ), attempt AS (
        INSERT INTO llm_generation_attempt (job_id, number, runner_name, outcome, started_at)
        SELECT id, attempts + 1, %(name)s, 'running', %(submitted_at)s FROM free
        RETURNING id, job_id
    )
    UPDATE llm_generation_job j
    SET state = 'running',
        started_at = NULL,
        queue_duration = 0,
        attempt_token = attempt.id,
        attempt_count = COALESCE(j.attempt_count, 0) + 1,
        scheduled_at = NULL,
        is_scheduled = FALSE,
        batch_priced = TRUE,
        progress = 0,
        prompt_tokens = 0,
        completion_tokens = 0
    FROM attempt
    WHERE j.id = attempt.job_id
    RETURNING j.id, attempt.id, (SELECT active FROM res_users u WHERE u.id = j.user_id)
"""

#: Jobs go back to the ordinary lane, or gather again: those of a batch, or some of them.
RETURN_JOBS = f"""
    UPDATE llm_generation_job j
    SET provider_batch_id = NULL, batch_lane = %(gather)s AND {SCHEDULED.sql("j")}
    WHERE j.provider_batch_id = %(batch)s AND {UNASKED}
      AND (%(jobs)s::int[] IS NULL OR j.id = ANY(%(jobs)s))
    RETURNING j.id
"""

#: The jobs that answers of a batch were stored with, and whether well, whatever became of them.
ANSWERED = """
    SELECT job_id, outcome = 'completed'
    FROM llm_generation_attempt WHERE job_id = ANY(%s) AND runner_name = %s
"""

#: Batches that ended long ago.
OLD_PROVIDER_BATCHES = """
    DELETE FROM llm_generation_provider_batch b
    WHERE b.id IN (
        SELECT e.id FROM llm_generation_provider_batch e
        WHERE e.ended_at < %s
          AND NOT EXISTS (SELECT FROM llm_generation_job j WHERE j.provider_batch_id = e.id)
        FOR UPDATE SKIP LOCKED)
    RETURNING b.id
"""
