"""Fill the tables of a database as years of work would, in SQL."""

#: Queues besides the lanes, so that "all queues" means something.
MORE_QUEUES = 18
#: Finished jobs are kept for a week.
DAYS_KEPT = 7

_PLACES = """
    WITH place AS (
        SELECT t.id, t.provider_id, t.model_id, count(*) OVER () AS places,
            row_number() OVER (ORDER BY t.id) - 1 AS place
        FROM llm_thread t JOIN llm_provider p ON p.id = t.provider_id
        WHERE p.name = %(lane)s OR %(lane)s IS NULL
    )
"""
_COLUMNS = """
    INSERT INTO llm_generation_job (
        thread_id, provider_id, model_id, user_id, company_id, name, priority, retry_count,
        max_retries, generation_inputs, estimated_tokens, create_date, state, fair_rank,
        attempt_count, queued_at, started_at, completed_at, duration, queue_duration,
        error_type, prompt_tokens, completion_tokens)
    SELECT place.id, place.provider_id, place.model_id, 2, 1, 'A chair', 10, 0, 3,
        '{"prompt": "Describe the product in two sentences for the web shop.", "key": 1}', 300,
"""
_FROM = "FROM generate_series(1, %(count)s) n JOIN place ON place.place = n %% place.places"

_QUEUED = f"""
    {_PLACES} {_COLUMNS}
        now() AT TIME ZONE 'UTC', 'queued', n / 10, 0, now() AT TIME ZONE 'UTC',
        NULL, NULL, NULL, NULL, NULL, NULL, NULL
    {_FROM}
"""
_FINISHED = f"""
    {_PLACES} {_COLUMNS}
        ended - interval '9 s', CASE WHEN n %% 50 = 0 THEN 'failed' ELSE 'completed' END,
        n / 10, 1, ended - interval '9 s', ended - interval '5 s', ended, 5, 4,
        CASE WHEN n %% 50 = 0 THEN 'timeout' END, 80, 40
    {_FROM}
    CROSS JOIN LATERAL (
        SELECT (now() AT TIME ZONE 'UTC')
            - n * (interval '{DAYS_KEPT} days' / %(count)s) AS ended) AS past
"""
_ATTEMPTS = """
    INSERT INTO llm_generation_attempt (
        job_id, number, outcome, runner_name, started_at, ended_at, create_uid, create_date)
    SELECT j.id, 1, j.state, 'server:1', j.started_at, j.completed_at, 1, now()
    FROM llm_generation_job j
    WHERE j.completed_at IS NOT NULL
        AND j.id > (SELECT COALESCE(max(job_id), 0) FROM llm_generation_attempt)
"""
#: A word that few of the answers have.
NEEDLE = "marmalade"
_SAID = f"""
    WITH asked AS MATERIALIZED (
        SELECT id, thread_id, nextval('mail_message_id_seq') AS question,
            nextval('mail_message_id_seq') AS answer, row_number() OVER (ORDER BY id DESC) AS n
        FROM llm_generation_job WHERE completed_at IS NOT NULL ORDER BY id DESC LIMIT %(count)s
    ), said AS (
        INSERT INTO mail_message (
            id, model, res_id, message_type, body, llm_source, date, create_uid, create_date)
        SELECT one.id, 'llm.thread', asked.thread_id, 'comment', '<p>' || one.text || '</p>',
            one.text, now() AT TIME ZONE 'UTC', 2, now() AT TIME ZONE 'UTC'
        FROM asked CROSS JOIN LATERAL (VALUES
            (question, 'Describe the chair ' || n || ' in two sentences for the web shop.'),
            (answer, repeat('A chair of oak with a seat of wool. ', 15) || md5(n::text)
                || CASE WHEN n %% 1000 = 0 THEN ' {NEEDLE}' ELSE '' END)
        ) AS one (id, text)
    )
    UPDATE llm_generation_job j SET input_message_id = question, output_message_id = answer
    FROM asked WHERE asked.id = j.id
"""


def prepare(env, more=MORE_QUEUES):
    """Have more queues than the lanes."""
    for number in range(more):
        env["bench.llm"]._prepare(f"queue {number}", 5)


def queue(cursor, count, lane="ten"):
    cursor.execute(_QUEUED, {"count": count, "lane": lane})


def finish(cursor, count):
    # A million foreign keys that are right by construction need not be looked up.
    cursor.execute("SET session_replication_role = replica")
    cursor.execute(_FINISHED, {"count": count, "lane": None})
    cursor.execute(_ATTEMPTS)
    cursor.execute("RESET session_replication_role")


def say(cursor, count):
    """Give the newest of the finished jobs their questions and answers."""
    cursor.execute("SET session_replication_role = replica")
    cursor.execute(_SAID, {"count": count})
    cursor.execute("RESET session_replication_role")
    cursor.execute("VACUUM (ANALYZE) mail_message")


def settle(cursor):
    """Leave the tables as the autovacuum leaves them in time."""
    cursor.execute("VACUUM (ANALYZE) llm_generation_job, llm_generation_attempt")


def complete(cursor, ids):
    """End jobs that run."""
    cursor.execute(
        "UPDATE llm_generation_attempt SET outcome = 'completed', ended_at = now()"
        " WHERE job_id = ANY(%s)",
        [ids],
    )
    cursor.execute(
        "UPDATE llm_generation_job SET state = 'completed', completed_at = now()"
        " WHERE id = ANY(%s)",
        [ids],
    )


def remove(cursor, ids):
    cursor.execute("DELETE FROM llm_generation_job WHERE id = ANY(%s)", [ids])
