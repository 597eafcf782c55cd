"""What users and companies spend in a day."""

from .queueing import ESTIMATED_TOKENS

LOCK = "SELECT pg_advisory_xact_lock(%s, %s)"
TRY_LOCK = "SELECT pg_try_advisory_xact_lock(%s, %s)"

TRANSACTION = "SELECT txid_current()::text"

#: The jobs that would be queued, with what each is going to cost.
WANTED = f"""
    SELECT j.id, j.user_id, j.company_id, {ESTIMATED_TOKENS}
    FROM llm_generation_job j
    WHERE j.id = ANY(%(jobs)s) AND j.state = ANY(%(sources)s)
    ORDER BY j.id
"""

RESERVE = f"""
    INSERT INTO llm_generation_spending
        (job_id, day, user_id, company_id, jobs, tokens, attempts, is_open, xid)
    SELECT j.id, %(day)s, j.user_id, j.company_id, 1, {ESTIMATED_TOKENS},
        COALESCE(j.attempt_count, 0), TRUE, txid_current()::text
    FROM llm_generation_job j
    WHERE j.id = ANY(%(jobs)s)
"""

#: What was spent on a day, by this transaction or by all others.
SPENT = """
    SELECT 'user', user_id, sum(jobs), sum(tokens) FROM llm_generation_spending
    WHERE user_id = ANY(%(users)s) AND day = %(day)s AND (xid = %(xid)s) = %(own)s
    GROUP BY user_id
    UNION ALL
    SELECT 'company', company_id, sum(jobs), sum(tokens) FROM llm_generation_spending
    WHERE company_id = ANY(%(companies)s) AND day = %(day)s AND (xid = %(xid)s) = %(own)s
    GROUP BY company_id
"""

#: What was never tried costs nothing. Else what the provider told counts; where it told nothing,
#: a failure costs no tokens, but for those after which the provider may have done the work.
SETTLE = """
    UPDATE llm_generation_spending s
    SET jobs = CASE WHEN j.attempt_count > s.attempts THEN 1 ELSE 0 END,
        tokens = CASE
            WHEN NOT j.attempt_count > s.attempts THEN 0
            WHEN COALESCE(j.prompt_tokens, 0) + COALESCE(j.completion_tokens, 0) > 0
                THEN LEAST(2147483647,
                    COALESCE(j.prompt_tokens, 0)::bigint + COALESCE(j.completion_tokens, 0))
            WHEN j.state = 'failed'
              AND j.error_type NOT IN ('unknown_outcome', 'timeout', 'worker_died') THEN 0
            ELSE s.tokens END,
        is_open = FALSE
    FROM llm_generation_job j
    WHERE j.id = ANY(%s) AND s.job_id = j.id AND s.is_open
"""
