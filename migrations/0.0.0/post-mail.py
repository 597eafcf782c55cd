"""From the public addon: what people wrote, planned and followed on jobs.

Its jobs inherit mail.thread and mail.activity.mixin, and ours do not: what stayed with a job could
be neither seen nor closed. What people wrote goes over to the conversation, where it is no part of
what a model reads, as it has no `llm_role`.
"""

import logging
import re

from odoo import SUPERUSER_ID, api
from odoo.tools import sql

_logger = logging.getLogger(__name__)

MODELS = ("llm.generation.job", "llm.generation.queue")

MOVE_ACTIVITIES = """
    UPDATE mail_activity a
    SET res_model = m.model, res_model_id = m.id, res_id = t.id, res_name = t.name
    FROM ir_model m, llm_generation_job j JOIN llm_thread t ON t.id = j.thread_id
    WHERE m.model = 'llm.thread' AND a.res_model = 'llm.generation.job' AND a.res_id = j.id
      AND a.active
"""
#: An activity of somebody needs no document.
FREE_ACTIVITIES = """
    UPDATE mail_activity a
    SET res_model = NULL, res_model_id = NULL, res_id = NULL, res_name = NULL,
        summary = concat_ws(': ', j.name, NULLIF(a.summary, ''))
    FROM llm_generation_job j
    WHERE a.res_model = 'llm.generation.job' AND a.res_id = j.id AND a.active
      AND a.user_id IS NOT NULL
"""
REMOVE_ACTIVITIES = "DELETE FROM mail_activity WHERE res_model = 'llm.generation.job'"
FREE_TYPES = "UPDATE mail_activity_type SET res_model = NULL WHERE res_model = 'llm.generation.job'"

MOVE_MESSAGES = """
    UPDATE mail_message m SET model = 'llm.thread', res_id = j.thread_id
    FROM llm_generation_job j
    WHERE m.model = 'llm.generation.job' AND m.res_id = j.id
      AND m.message_type IN ('comment', 'email', 'email_outgoing')
"""
MOVE_ATTACHMENTS = """
    UPDATE ir_attachment a SET res_model = 'llm.thread', res_id = j.thread_id
    FROM llm_generation_job j
    WHERE a.res_model = 'llm.generation.job' AND a.res_id = j.id AND a.res_field IS NULL
"""
REMOVE_MESSAGES = "DELETE FROM mail_message WHERE model = 'llm.generation.job'"
REMOVE_FOLLOWERS = "DELETE FROM mail_followers WHERE res_model = 'llm.generation.job'"

#: Odoo removes them at the end of the upgrade.
KNOWN_FIELDS = "SELECT name FROM ir_model_fields WHERE model = %s"


def migrate(cr, version):
    """Hand over what people have to do and wrote, and remove the rest."""
    if not version or not sql.table_exists(cr, "llm_generation_queue_before"):
        return
    env = api.Environment(cr, SUPERUSER_ID, {})
    if "message_ids" not in env["llm.generation.job"]._fields:
        _hand_over_activities(env)
        _hand_over_messages(env)
    env.invalidate_all()
    _archive_filters(env)


def _hand_over_activities(env):
    has_activities = "activity_ids" in env["llm.thread"]._fields
    kept = _count(env, MOVE_ACTIVITIES if has_activities else FREE_ACTIVITIES)
    removed = _count(env, REMOVE_ACTIVITIES)
    _count(env, FREE_TYPES)
    place = "are those of their conversation" if has_activities else "stay without a document"
    _logger.info(
        "Activities of jobs: %s %s; %s that were done, or nobody's, are removed",
        *(kept, place, removed),
    )


def _hand_over_messages(env):
    moved, files = _count(env, MOVE_MESSAGES), _count(env, MOVE_ATTACHMENTS)
    removed, followers = _count(env, REMOVE_MESSAGES), _count(env, REMOVE_FOLLOWERS)
    _logger.info(
        "Messages on jobs: %s, and %s files, are in their conversation; %s that Odoo had written"
        " are removed, and %s followers",
        *(moved, files, removed, followers),
    )


def _count(env, statement):
    env.cr.execute(statement)
    return env.cr.rowcount


def _archive_filters(env):
    """Archive the filters of users that ask for fields which are no more: each is an error."""
    for model in MODELS:
        env.cr.execute(KNOWN_FIELDS, [model])
        gone = {name for (name,) in env.cr.fetchall()} - env[model]._fields.keys()
        for saved in env["ir.filters"].search([("model_id", "=", model)]):
            asked = re.findall(r"\w+", f"{saved.domain} {saved.context} {saved.sort}")
            if missing := sorted(gone.intersection(asked)):
                saved.active = False
                _logger.info(
                    "Filter %s of %s is archived, as there is no %s any more",
                    *(saved.id, model, ", ".join(missing)),
                )
