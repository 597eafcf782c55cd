from hashlib import sha256

from odoo import models
from odoo.fields import Domain

from odoo.addons.mail.tools.discuss import Store

from ..const import ACTIVE_STATES

#: What a chat page shows of a job.
JOB_FIELDS = (
    "state", "queue_position", "progress", "error_message", "retry_at", "can_retry",
)  # fmt: skip
#: Newest messages that one answer tells of: those of a question, and of tools that were called.
NEWS_LIMIT = 100


class LlmThread(models.Model):
    """Answers a chat page that asks through the queue, and holds no worker while it waits."""

    _inherit = "llm.thread"

    def ask_in_queue(self, message=None, attachment_ids=None, use_queue=None):
        """Queue what is asked, where questions of this thread are queued, and return at once.

        :param str message: posted as the question; without one the last question is meant
        :param list attachment_ids: go with the question
        :param bool use_queue: True queues it in any case
        :return: False where the answer is to be given directly, and nothing was done; else what
            `get_generation_news()` returns
        :raise UserError: when there is nothing to answer, or a limit is reached
        """
        self.ensure_one()
        self.check_access("write")
        if not use_queue and not self._queues_question():
            return False
        self.enqueue_generation(message or None, attachment_ids=attachment_ids or None)
        return self.get_generation_news()

    def get_generation_news(self):
        """Return where the generation of this thread stands, and what was said since its question.

        In tests, who asks runs the jobs that wait.

        :return: a dict of `job` (its values by the names of `JOB_FIELDS`, and a sentence as
            `message`; False where none waits, runs, or ended after the last question), `since`
            (the id of the first message told), `message_ids`, and `data` for the web client's
            `mail.store`
        """
        self.ensure_one()
        self.check_access("read")
        job = self._newest_generation()
        engine = self.env["llm.generation.engine"]
        if job.state == "queued" and engine._is_inline():
            engine._process(self.env["llm.generation.queue"]._get_or_create_queue(job.provider_id))
        messages = self._messages_since(job)
        [values] = job.read(JOB_FIELDS) if job else [False]
        return {
            "job": values and {**values, "message": job._status_sentence()},
            "since": messages[:1].id,
            "message_ids": messages.ids,
            "data": Store().add(messages).get_result(),
        }

    def _queues_question(self):
        """Return whether a question that a page brings now is queued.

        Behind one that waits it is always: the answers come in the order of the questions.
        """
        return self.is_generating or self._should_queue_generation()

    def _newest_generation(self):
        """Return the job that runs, else the newest that waits, else the last that ended.

        None where that one is stale: something was asked after it.
        """
        Job = self.env["llm.generation.job"]
        mine = Domain("thread_id", "=", self.id) & Domain("state", "!=", "draft")
        job = Job.search(mine, order="completed_at DESC, id DESC", limit=1)
        if job.state in ACTIVE_STATES:
            return Job.search(mine & Domain("state", "=", "running"), limit=1) or job
        if not job.input_message_id:
            return job
        newer = Domain("llm_role", "=", "user") & Domain("id", ">", job.input_message_id.id)
        return job.browse() if self._search_messages(newer, 1) else job

    def _messages_since(self, job):
        """Return the messages since the oldest question that is not answered, oldest first."""
        if not job:
            return self.env["mail.message"]
        waiting = Domain("thread_id", "=", self.id) & Domain("state", "in", ACTIVE_STATES)
        jobs = self.env["llm.generation.job"].search(waiting) | job
        first = min(jobs.input_message_id.ids, default=job.output_message_id.id)
        if not first:
            return self.env["mail.message"]
        said = Domain("llm_role", "!=", False) & Domain("id", ">=", first)
        return self._search_messages(said, NEWS_LIMIT).sorted("id")

    def _search_messages(self, domain, limit):
        here = Domain("model", "=", self._name) & Domain("res_id", "=", self.id)
        messages = self.env["mail.message"]
        messages.flush_model(["llm_role"])  # the search of mail flushes its own fields only
        return messages.search(here & domain, order="id DESC", limit=limit)

    def _identity_of_question(self, message, attachment_ids):
        """Return the `identity_key` by which a question that comes twice is one job."""
        asked = repr((self.env.uid, message or "", sorted(attachment_ids or ())))
        return f"chat:{self.id}:{sha256(asked.encode()).hexdigest()}"
