"""From the public addon: give the engine what it knows of jobs that it started itself."""

import logging

from odoo import SUPERUSER_ID, api, fields
from odoo.tools import SQL, sql

from odoo.addons.llm_generate_job.const import DEFAULT_ANSWER_TOKENS, ERROR_MESSAGE_LIMIT
from odoo.addons.llm_generate_job.engine.sql import ESTIMATED_TOKENS
from odoo.addons.llm_generate_job.hooks import post_init_hook, upgrade_sentences
from odoo.addons.llm_generate_job.protocol.sanitize import redact

_logger = logging.getLogger(__name__)

#: The last column: whether the queue was disabled, and is part now of one that starts jobs.
MODEL_LIMITS = """
    SELECT old.queue_id, old.model_id, old.max_concurrent_jobs, q.enabled AND NOT old.enabled
    FROM llm_generation_queue_before old
    JOIN llm_generation_queue q ON q.id = old.queue_id
    WHERE old.model_id IS NOT NULL AND old.is_used AND NOT EXISTS (
        SELECT FROM llm_generation_model_limit l
        WHERE l.queue_id = old.queue_id AND l.model_id = old.model_id)
    ORDER BY old.id
"""
HELD = """
    SELECT DISTINCT j.id FROM llm_generation_job j
    JOIN llm_generation_queue_before old ON old.model_id = j.model_id AND old.is_used
    JOIN llm_generation_queue q ON q.id = old.queue_id
    WHERE j.state = 'draft' AND j.queued_at IS NOT NULL AND NOT old.enabled AND q.enabled
"""

#: The order that jobs had is that of their dates; ours adds that users take turns.
TAKE_PLACES = """
    UPDATE llm_generation_job j
    SET fair_rank = placed.fair_rank, attempt_count = COALESCE(j.attempt_count, 0),
        is_scheduled = FALSE, estimated_tokens = %(estimate)s
    FROM (
        SELECT id, row_number() OVER (
            PARTITION BY provider_id, priority, user_id ORDER BY queued_at, id) - 1 AS fair_rank
        FROM llm_generation_job WHERE state = 'queued' AND fair_rank IS NULL) placed
    WHERE j.id = placed.id
"""

#: What is polled has an attempt, which its answer ends.
ADOPT = """
    WITH attempt AS (
        INSERT INTO llm_generation_attempt (job_id, number, outcome, started_at, external_job_id)
        SELECT id, 1, 'running', COALESCE(started_at, now() AT TIME ZONE 'UTC'), external_job_id
        FROM llm_generation_job
        WHERE state = 'running' AND external_job_id IS NOT NULL AND attempt_token IS NULL
        RETURNING id, job_id)
    UPDATE llm_generation_job j
    SET attempt_token = attempt.id, attempt_count = 1, fair_rank = 0
    FROM attempt WHERE j.id = attempt.job_id
    RETURNING j.id
"""

#: Odoo fills a new column with one value for all rows; a secret is to be of one job.
HAND_OUT_TOKENS = """
    UPDATE llm_generation_job
    SET webhook_token = translate(concat(gen_random_uuid(), gen_random_uuid()), '-', '')
    WHERE webhook_token IS NULL OR webhook_token IN (
        SELECT webhook_token FROM llm_generation_job GROUP BY 1 HAVING count(*) > 1)
"""

#: Nobody looked at what providers said of errors, and how much.
ERRORS = "SELECT id, error_message FROM llm_generation_job WHERE error_message IS NOT NULL"
SET_ERROR = "UPDATE llm_generation_job SET error_message = %s WHERE id = %s"


def migrate(cr, version):
    """Make limits of what were queues of models, and adopt or end what was running."""
    if not version or not sql.table_exists(cr, "llm_generation_queue_before"):
        return
    env = api.Environment(cr, SUPERUSER_ID, {})
    limits = _limit_models(env)
    held = _explain_held(env)
    cr.execute("DROP TABLE llm_generation_queue_before")
    _logger.info("Kept the limits of %s models; %s jobs are drafts again", limits, held)
    post_init_hook(env)
    estimate = SQL(ESTIMATED_TOKENS, answer_tokens=DEFAULT_ANSWER_TOKENS)
    cr.execute(SQL(TAKE_PLACES, estimate=estimate))
    cr.execute(HAND_OUT_TOKENS)
    _clean_errors(cr)
    env.invalidate_all()
    adopted, failed = _adopt(env), _fail(env)
    _logger.info("%s running jobs are asked about, the outcome of %s is unknown", adopted, failed)


def _limit_models(env):
    env.cr.execute(MODEL_LIMITS)
    rows = env.cr.fetchall()
    env["llm.generation.model.limit"].create([
        {"queue_id": queue, "model_id": model, "max_concurrent_jobs": 1 if is_merged else slots}
        for queue, model, slots, is_merged in rows
    ])
    for queue, model, _slots, is_merged in rows:
        if is_merged:
            name = env["llm.model"].browse(model).name
            queue = env["llm.generation.queue"].browse(queue)
            queue._message_log(body=_sentence(env.user, "merged") % name)
    return len(rows)


def _explain_held(env):
    env.cr.execute(HELD)
    jobs = env["llm.generation.job"].browse([row[0] for row in env.cr.fetchall()])
    for user, mine in jobs.grouped("user_id").items():
        mine.write({"error_message": _sentence(user, "held")})
    return len(jobs)


def _clean_errors(cr):
    cr.execute(ERRORS)
    for job_id, told in cr.fetchall():
        cleaned = redact(told)[:ERROR_MESSAGE_LIMIT]
        if cleaned != told:
            cr.execute(SET_ERROR, [cleaned, job_id])


def _adopt(env):
    """Have the providers asked about the jobs that they run; return how many."""
    env.cr.execute(ADOPT)
    jobs = env["llm.generation.job"].browse([row[0] for row in env.cr.fetchall()])
    env.invalidate_all()
    now = fields.Datetime.now()
    for job in jobs:
        job.write({"next_poll_at": now, "started_at": now})  # or it would be over at once
    return len(jobs)


def _fail(env):
    """End the jobs that a process was running itself; return how many."""
    jobs = env["llm.generation.job"].search([
        ("state", "=", "running"),
        ("external_job_id", "=", False),
        ("attempt_token", "=", False),
    ])
    for user, mine in jobs.grouped("user_id").items():
        told = _sentence(user, "lost")
        mine._set_state("failed", error_type="unknown_outcome", error_message=told)
    return len(jobs)


def _sentence(user, name):
    return upgrade_sentences(user.with_context(lang=user.lang).env)[name]
