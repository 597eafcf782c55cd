"""What users and companies spend in a day: what is reserved, and what it cost in the end."""

from odoo.addons.llm_generate_job.const import UNKNOWN_OUTCOMES
from odoo.addons.llm_generate_job.engine.sql import ESTIMATED_TOKENS

LOCK = "SELECT pg_advisory_xact_lock(%s, %s)"
TRY_LOCK = "SELECT pg_try_advisory_xact_lock(%s, %s)"

TRANSACTION = "SELECT txid_current()::text"

#: How long to wait for others who reserve of the same budget.
PATIENCE = "5s"
LOCK_PATIENCE = f"SET LOCAL lock_timeout = '{PATIENCE}'"
#: The same where the transaction has no such limit yet, and its end.
BOUND_WAIT = f"""
    SELECT set_config('lock_timeout', '{PATIENCE}', TRUE)
    WHERE current_setting('lock_timeout') = '0'
"""
UNBOUND_WAIT = f"""
    SELECT set_config('lock_timeout', '0', TRUE)
    WHERE current_setting('lock_timeout') = '{PATIENCE}'
"""

#: Whose budget it is: that of the company that pays the provider, else of the job's.
PAYER = """COALESCE((SELECT p.company_id FROM llm_provider p WHERE p.id = j.provider_id),
            j.company_id)"""

#: The jobs that would be queued, with the companies that bind each, and what it is going to cost.
#: Which of their companies pays a shared provider is for its users to choose: all have to allow it.
WANTED = f"""
    SELECT j.id, j.user_id, ARRAY(
            SELECT {PAYER}
            UNION SELECT c.id FROM res_company_users_rel r JOIN res_company c ON c.id = r.cid
            WHERE r.user_id = j.user_id AND c.active
              AND (SELECT p.company_id FROM llm_provider p WHERE p.id = j.provider_id) IS NULL),
        {ESTIMATED_TOKENS}
    FROM llm_generation_job j
    WHERE j.id = ANY(%(jobs)s) AND j.state = ANY(%(sources)s)
    ORDER BY j.id
"""

RESERVE = f"""
    INSERT INTO llm_generation_spending
        (job_id, day, user_id, company_id, jobs, tokens, attempts, is_open, xid)
    SELECT j.id, %(day)s, j.user_id, {PAYER}, 1, {ESTIMATED_TOKENS},
        COALESCE(j.attempt_count, 0), TRUE, txid_current()::text
    FROM llm_generation_job j
    WHERE j.id = ANY(%(jobs)s)
"""

#: Who pays for what waits, once it has another provider. A row of this transaction then: the new
#: payer counts it at once.
REBOOK = f"""
    UPDATE llm_generation_spending s SET company_id = {PAYER}, xid = txid_current()::text
    FROM llm_generation_job j
    WHERE j.id = s.job_id AND s.job_id = ANY(%(jobs)s) AND s.is_open
        AND s.company_id IS DISTINCT FROM {PAYER}
    RETURNING s.id
"""

#: Those of some rows that are this transaction's.
OF_TRANSACTION = """
    SELECT id FROM llm_generation_spending WHERE id = ANY(%(ids)s) AND xid = %(xid)s
"""

#: An answer that no job asks for.
RESERVE_DIRECT = """
    INSERT INTO llm_generation_spending
        (day, user_id, company_id, jobs, tokens, attempts, is_open, xid)
    VALUES (%(day)s, %(user)s, %(company)s, 1, %(tokens)s, 0, TRUE, txid_current()::text)
    RETURNING id
"""

#: What was spent on a day, by this transaction or by all others.
SPENT = """
    SELECT 'user', user_id, sum(jobs), sum(tokens) FROM llm_generation_spending
    WHERE user_id = ANY(%(users)s) AND day = %(day)s AND (xid = %(xid)s) = %(own)s
        AND NOT id = ANY(%(without)s)
    GROUP BY user_id
    UNION ALL
    SELECT 'company', company_id, sum(jobs), sum(tokens) FROM llm_generation_spending
    WHERE company_id = ANY(%(companies)s) AND day = %(day)s AND (xid = %(xid)s) = %(own)s
        AND NOT id = ANY(%(without)s)
    GROUP BY company_id
"""

#: What was never tried costs nothing. Else what is known of the tries since it was queued counts,
#: as the provider told it or by length; where nothing is, a failure costs no tokens, but for those
#: after which the provider may have done the work.
SETTLE = f"""
    WITH used AS (
        SELECT s.id, j.state, j.error_type, j.attempt_count > s.attempts AS is_tried,
            (SELECT sum(COALESCE(a.prompt_tokens, 0)::bigint + COALESCE(a.completion_tokens, 0))
             FROM llm_generation_attempt a
             WHERE a.job_id = j.id AND a.number > s.attempts) AS tokens
        FROM llm_generation_spending s JOIN llm_generation_job j ON j.id = s.job_id
        WHERE j.id = ANY(%s) AND s.is_open
    )
    UPDATE llm_generation_spending s
    SET jobs = CASE WHEN used.is_tried THEN 1 ELSE 0 END,
        tokens = CASE
            WHEN used.is_tried IS NOT TRUE THEN 0
            WHEN used.tokens > 0 THEN LEAST(2147483647, used.tokens)
            WHEN used.state = 'failed' AND used.error_type NOT IN {UNKNOWN_OUTCOMES} THEN 0
            ELSE s.tokens END,
        is_open = FALSE
    FROM used
    WHERE s.id = used.id
"""

#: The same for one that was settled before an attempt of its could tell what it used.
SETTLE_LATE = """
    WITH settled AS (
        SELECT s.id, s.is_open,
            (SELECT sum(COALESCE(b.prompt_tokens, 0)::bigint + COALESCE(b.completion_tokens, 0))
             FROM llm_generation_attempt b
             WHERE b.job_id = a.job_id AND b.number > s.attempts AND b.number <= a.number) AS tokens
        FROM llm_generation_attempt a
        JOIN llm_generation_spending s ON s.job_id = a.job_id AND s.attempts < a.number
        WHERE a.id = %s
        ORDER BY s.attempts DESC
        LIMIT 1
    )
    UPDATE llm_generation_spending s
    SET tokens = LEAST(2147483647, settled.tokens)
    FROM settled
    WHERE s.id = settled.id AND settled.is_open IS NOT TRUE AND settled.tokens > 0
"""

#: What the answers to jobs used that were not stored with them, on top of what these cost and on
#: their day. Of a job that is gone what was reserved stays, unless it had been freed.
SPEND_LOST = """
    INSERT INTO llm_generation_spending
        (day, user_id, company_id, jobs, tokens, attempts, is_open, xid)
    SELECT s.day, s.user_id, s.company_id, 1 - s.jobs, LEAST(2147483647, lost.tokens), 0, FALSE,
        txid_current()::text
    FROM unnest(%(jobs)s::int[], %(tokens)s::bigint[]) AS lost (job_id, tokens)
    CROSS JOIN LATERAL (
        SELECT * FROM llm_generation_spending
        WHERE job_id = lost.job_id ORDER BY id DESC LIMIT 1) s
    WHERE s.jobs = 0 OR EXISTS (SELECT FROM llm_generation_job j WHERE j.id = lost.job_id)
"""
