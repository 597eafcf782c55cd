import contextlib
from hashlib import sha256
from urllib.parse import urlsplit

import psycopg2
from markupsafe import Markup

from odoo import api, fields, models
from odoo.exceptions import AccessError, ConcurrencyError, UserError
from odoo.fields import Domain
from odoo.http import request
from odoo.tools.misc import clean_context

from odoo.addons.mail.tools.discuss import Store

from ..const import ACTIVE_STATES, FINAL_STATES, MEDIA_USES, READY, RETRYING, STATES
from ..protocol.markdown import Rendered, markdown_to_html
from ..protocol.sanitize import sanitize_body, sanitize_body_json, sanitize_text
from ..protocol.tokens import estimate
from ..runner import streams, thread_lock
from ..runner.cursor import LazyCursor
from ..runner.executor import received
from .mail_message import ASKING_ROLES

#: `generate_response()` queues by itself when this many jobs of the provider run or stand in line.
BUSY_SLOTS = 3
HISTORY_LIMIT = 50
#: What a chat page shows of a job.
JOB_FIELDS = (
    "state", "queue_position", "reason", "progress", "retry_at", "can_retry",
    "retry_refusal", "finish_reason",
)  # fmt: skip
#: The questions of people.
ASKED = Domain("llm_role", "=", "user")
#: Newest messages that one answer tells of: those of a question, and of tools that were called.
NEWS_LIMIT = 100
#: What mail would find out about a message, for who gets it by mail.
NO_MAIL = {"reply_to": False, "record_alias_domain_id": False, "email_from": False}
#: In the place of the id of a parent: there is none, and mail need not look for one.
NO_PARENT = -1


class LlmThread(models.Model):
    """Asks for answers through the queue, and tells what became of them."""

    _name = "llm.thread"
    _inherit = ["llm.thread", "llm.generation.bounds"]

    generation_job_ids = fields.One2many("llm.generation.job", "thread_id")
    is_generating = fields.Boolean(
        compute="_compute_generation_statistics", search="_search_is_generating"
    )
    current_generation_job_id = fields.Many2one(
        "llm.generation.job", compute="_compute_generation_statistics"
    )
    last_job_state = fields.Selection(STATES, compute="_compute_generation_statistics")
    total_generation_jobs = fields.Integer(compute="_compute_generation_statistics")
    successful_generation_jobs = fields.Integer(compute="_compute_generation_statistics")
    failed_generation_jobs = fields.Integer(compute="_compute_generation_statistics")
    generation_success_rate = fields.Float(
        "Success Rate (%)", compute="_compute_generation_statistics"
    )

    # === COMPUTE METHODS === #

    @api.depends("generation_job_ids.state")
    def _compute_generation_statistics(self):
        Job = self.env["llm.generation.job"]
        domain = Domain("thread_id", "in", self.ids)
        figures = {}
        for thread, state, count, newest in Job._read_group(
            domain, ["thread_id", "state"], ["__count", "id:max"]
        ):
            figures.setdefault(thread.id, {})[state] = (count, newest)
        for thread in self:
            mine = figures.get(thread._origin.id, {})
            counts = {state: count for state, (count, _newest) in mine.items()}
            newest = max(
                ((newest, state) for state, (_count, newest) in mine.items()), default=None
            )
            active = [newest for state, (_count, newest) in mine.items() if state in ACTIVE_STATES]
            completed, failed = counts.get("completed", 0), counts.get("failed", 0)
            ended = completed + failed
            thread.is_generating = bool(active)
            thread.current_generation_job_id = max(active, default=False)
            thread.last_job_state = newest[1] if newest else False
            thread.total_generation_jobs = sum(counts.values())
            thread.successful_generation_jobs = completed
            thread.failed_generation_jobs = failed
            thread.generation_success_rate = 100.0 * completed / ended if ended else 0.0

    def _search_is_generating(self, operator, value):
        if operator != "in":
            return NotImplemented
        jobs = self.env["llm.generation.job"]._search([("state", "in", ACTIVE_STATES)])
        generating = Domain("generation_job_ids", "in", jobs)
        return generating if True in value else ~generating

    @api.model
    def _empty_domain(self):
        """Return the domain of what is removed as never begun: see our own `llm_thread`."""
        return super()._empty_domain() & Domain("generation_job_ids", "=", False)

    # === CRUD METHODS === #

    def write(self, vals):
        result = super().write(vals)
        if "user_id" in vals:
            # Record rules look at the owner before: nobody may push a thread onto another.
            self.check_access("write")
        if vals.keys() & {"provider_id", "model_id"}:
            Job = self.env["llm.generation.job"].sudo()  # sudo: all that wait, whosever they are
            waiting = Domain("thread_id", "in", self.ids) & Domain("state", "=", "queued")
            Job.search(waiting)._follow_thread()
        return result

    # === MESSAGES === #

    def _process_llm_body(self, body):
        """Return an answer as HTML that knows its text; what is HTML already stays as it is.

        Pictures of other servers are shown where a provider says what it made, and not where a
        model writes their addresses.
        """
        if not body or isinstance(body, Markup):
            return body
        # sudo: how an answer is shown depends on its model, not on who looks.
        is_media = self.model_id.sudo().model_use in MEDIA_USES
        return markdown_to_html(body, pictures_but_of=self._own_hosts() if is_media else None)

    def _own_hosts(self):
        """Return the hosts whose pages a picture must not open in the reader's name."""
        addresses = [self.get_base_url(), *([request.httprequest.url_root] if request else ())]
        return {urlsplit(address).hostname for address in addresses}

    def message_post(self, *, llm_role=None, body_json=None, **kwargs):
        """Post a message; what a provider says in it is made fit to be kept and shown.

        What is said while a question is answered has that question as parent.

        :raise UserError: for a question that is too long
        :raise AccessError: for an answer of whoever is not logged in, also as superuser: some of
            the family have webhooks that believe what they are told
        """
        recorder = received(self.env, "generation_recorder")
        if llm_role not in ASKING_ROLES and not recorder and self.env.user._is_public():
            raise AccessError(self.env._("Only a model answers in a conversation."))
        if llm_role and llm_role != "user":
            key = self.provider_id._told_key()
            kwargs["body"] = sanitize_body(kwargs.get("body"), key)
            body_json = sanitize_body_json(body_json, key, shortened=llm_role != "assistant")
        else:  # before Odoo cleans the body, which takes long
            self.env["mail.message"]._refuse_long_question(kwargs.get("body"), body_json)
        if llm_role and not kwargs.get("body_is_html"):
            kwargs |= self._with_source(llm_role, kwargs.get("body"))
        if recorder and llm_role != "user" and (question := recorder.questions.get(self.id)):
            kwargs.setdefault("parent_id", question.id)
        if llm_role:  # conversations take no mail: no address is looked for
            kwargs = {**NO_MAIL, **kwargs}
            if llm_role == "user":
                kwargs.setdefault("parent_id", NO_PARENT)
                if not kwargs["email_from"]:
                    kwargs.setdefault("author_id", self.env.user.partner_id.id)
        message = super().message_post(llm_role=llm_role, body_json=body_json, **kwargs)
        if recorder and llm_role == "user":
            recorder.questions[self.id] = message
        return message

    def _message_compute_parent_id(self, parent_id):
        if parent_id == NO_PARENT:
            return False
        return super()._message_compute_parent_id(parent_id)

    def _event(self, event_type, message, **values):
        """Return an event of an answer.

        Whoever follows a job reads the message from the database; the job itself, only which one
        it is.
        """
        recorder = received(self.env, "generation_recorder")
        if recorder and recorder.thread_id == self.id:
            told = {"id": message.id, "llm_role": message.llm_role}
            return {"type": event_type, "message": told, **values}
        return super()._event(event_type, message, **values)

    def _with_source(self, llm_role, body):
        """Return the values of a message whose text is kept beside its HTML."""
        if not isinstance(body, Markup):
            body = sanitize_text(body or "")
            html = self._process_llm_body(body) if llm_role == "assistant" else body
            return {"body": html, "llm_source": body}
        return {"llm_source": body.source} if isinstance(body, Rendered) else {}

    # Mail comes as superuser, in the name of whoever is said to have sent it.

    @api.model
    @api.private
    def message_new(self, msg_dict, custom_values=None):
        """Refuse what comes by mail."""
        self._refuse_mail()

    @api.private
    def message_update(self, msg_dict, update_vals=None):
        """Refuse what comes by mail."""
        self._refuse_mail()

    # === GENERATION === #

    @api.model
    def _open_stream_cursor(self):
        # It holds no connection while the provider is waited for.
        return LazyCursor(self.env.registry)

    @api.model
    def _counts_streams(self):
        """Return whether the route of its own, that answers directly, asks `_stream_slot()`."""
        return hasattr(super(), "_stream_slot")

    @api.model
    @contextlib.contextmanager
    def _stream_slot(self):
        # One of the user's streams over all processes, as those of our own routes are.
        with (
            super()._stream_slot() as has_room,
            streams.of_user(self.env.cr.dbname, self.env.uid) as is_free,
        ):
            yield has_room and is_free

    @api.private
    def generate(self, *args, **kwargs):
        self.ensure_one()
        if received(self.env, "generation_recorder"):
            return (yield from super().generate(*args, **kwargs))
        asked = estimate([*args, kwargs.get("user_message_body")], {})
        with self.provider_id._direct_answer(self, asked) as recorder:
            thread = self.with_context(generation_recorder=recorder)
            events = super(LlmThread, thread).generate(*args, **kwargs)
            return (yield from events)  # noqa: B901 - to "yield from"

    @api.private
    def generate_response(self, user_message_body=None, use_queue=None, **kwargs):
        """Answer the user, directly or through the provider's queue, and yield the events.

        Directly, they are those of `generate()`. Through the queue they are `message_create`
        (the question, then the answer), `job_status` (`job_id`, `state`, `message`,
        `position`), `message_chunk` and `message_update` (the growing answer, whole each time),
        and last one of `done`, `error` and `cancelled`. The caller's transaction is committed
        before each wait. Closing the generator does not cancel the job.

        :param bool use_queue: None chooses by `_should_queue_generation()`
        :param kwargs: those of `generate()`, and of `enqueue_generation()` in queue mode
        """
        self.ensure_one()
        if use_queue is None:  # only a job keeps what is not posted
            use_queue = not kwargs.get("post", True) or self._should_queue_generation()
        if not use_queue:
            yield from self.generate(user_message_body, **kwargs)
            return
        job = self.enqueue_generation(user_message_body, **kwargs)
        if (user_message_body or kwargs.get("attachment_ids")) and job.input_message_id:
            question = job.input_message_id.to_store_format()
            yield {"type": "message_create", "message": question}
        yield from self.env["llm.generation.engine"]._follow(job)

    def _should_queue_generation(self):
        """Return whether an answer is better queued than given directly.

        It is when the provider runs jobs of its own, when its queue is marked "Always queue", or
        when the queue is enabled and at least `BUSY_SLOTS` jobs run or stand in line there already.
        Override it to choose otherwise.
        """
        self.ensure_one()
        provider = self.provider_id
        # What nobody says otherwise is known without its figures, which are of a whole day.
        says = provider._implements("get_generation_queue_info")
        info = provider.get_generation_queue_info() if says else {}
        if info.get("supports_jobs", provider._implements("create_generation_job")):
            return True
        # sudo: figures over all users' jobs decide, and no job is told.
        queue = self.env["llm.generation.queue"]._get_or_create_queue(provider).sudo()
        if queue.always_queue:
            return True
        busy = Domain("state", "=", "running") | Domain(READY.domain)
        live = Domain("provider_id", "=", provider.id) & busy
        # sudo: as above.
        jobs = self.env["llm.generation.job"].sudo()
        return queue.enabled and jobs.search_count(live, limit=BUSY_SLOTS) >= BUSY_SLOTS

    @api.private
    def enqueue_generation(self, user_message_body=None, inputs=None, **job_values):
        """Queue a generation without waiting and without committing.

        The work starts when the caller's transaction commits, and not at all if it rolls back.

        :param str user_message_body: posted into the thread as the question
        :param inputs: the job's `generation_inputs`
        :param job_values: further values of the job; `attachment_ids` go with the question. With
            `post=False` no message is posted: the job keeps question and answer (`output_text`)
        :return: the queued job; with an `identity_key` that a live job has, that job
        :raise UserError: when there is nothing to answer, or the model refuses the inputs
        """
        self.ensure_one()
        # What a page has as defaults of its own records is none of a job.
        context = clean_context(self.env.context)
        self = self.with_context(context)  # noqa: PLW0642 # pylint: disable=context-overridden
        Job = self.env["llm.generation.job"]
        if live := Job._find_live({"thread_id": self.id, **job_values}):
            return live
        attachments = job_values.pop("attachment_ids", None)
        key = job_values.pop("identity_key", None)
        with self.env.cr.savepoint():  # who catches a refusal finds nothing half-way
            question = self.env["mail.message"]
            if job_values.get("post", True):
                question = self._question_of(user_message_body, attachments)
            elif attachments:
                raise UserError(self.env._("A file goes with a message only. Have it posted."))
            elif user_message_body:
                inputs = {**(inputs or {}), "prompt": str(user_message_body)}
            if not question and not inputs:
                raise UserError(self.env._("There is nothing to answer: write a message first."))
            job = Job.create({
                "thread_id": self.id,
                "generation_inputs": inputs,
                "input_message_id": question.id,
                **job_values,
            })
            if key:
                job._identify(key)
            job.action_queue()
        return job

    def _question_of(self, body, attachment_ids):
        """Post the question, or return the last one of the thread that has no answer."""
        if body or attachment_ids:
            self.env["ir.attachment"].browse(attachment_ids or ()).check_access("read")
            return self.message_post(
                body=body or "", llm_role="user", attachment_ids=attachment_ids
            )
        last = self._search_messages(Domain("llm_role", "!=", False), 1)
        return last if last.llm_role in {"user", "tool"} else last.browse()

    def _on_generation_job_done(self, job):
        """Act on the end of a job of this thread; called once, as the job's owner.

        Runs in the transaction that ends the job. An exception is logged and undoes only what
        this method did. A failed job that will be retried by itself has not ended.

        :param job: the record of `llm.generation.job`
        """

    @api.model
    def _has_done_hook(self):
        """Return whether somebody overrides the hook: calling it costs a savepoint a job."""
        return type(self)._on_generation_job_done is not LlmThread._on_generation_job_done

    def unlink(self):
        # Not by `@api.ondelete`: `mail.thread` removes the messages before that is called.
        self.check_access("unlink")
        # sudo: who may delete the thread may end all of its jobs.
        jobs = self.env["llm.generation.job"].sudo()
        waiting = Domain("state", "in", ACTIVE_STATES) | Domain("cancel_requested", "=", True)
        jobs.search(Domain("thread_id", "in", self.ids) & waiting)._give_up()
        return super().unlink()

    def _clean_empty_message(self, message):
        result = super()._clean_empty_message(message)
        message._withdraw()
        return result

    # === THE LOCK OF THE FAMILY === #
    # It is one of the connection, which a cursor that commits after each event gives back: there
    # it is taken on a connection of its own, which jobs lock the thread by, too.

    def _acquire_thread_lock(self):
        if not isinstance(self.env.cr, LazyCursor):
            return super()._acquire_thread_lock()
        if not thread_lock.try_lock(self.env.cr.dbname, self.id):
            raise UserError(self.env._("Another answer is being written in this thread."))
        return True

    def _release_thread_lock(self):
        if not isinstance(self.env.cr, LazyCursor):
            return super()._release_thread_lock()
        thread_lock.unlock(self.env.cr.dbname, self.id)
        return True

    # === ACTION METHODS === #

    def action_cancel_generation(self):
        """Cancel what waits or runs in these threads, or else the retry that is ahead.

        Jobs that post nothing go on while there are others: nobody sees them there.

        :raise UserError: where nothing does
        """
        jobs = self.generation_job_ids.filtered("is_active")
        jobs = jobs.filtered("post") or jobs
        if not jobs and (failed := self.generation_job_ids.filtered_domain(RETRYING.domain)):
            return failed.action_stop_retrying()
        if not jobs:
            raise UserError(self.env._("No generation is waiting or running in this thread."))
        return jobs.action_cancel()

    def action_retry_last_failed_generation(self):
        """Queue the last failed job of the thread again.

        :raise UserError: where none failed
        """
        self.ensure_one()
        failed = self.generation_job_ids.filtered(lambda job: job.state == "failed")
        failed = failed.filtered("post") or failed
        if not failed:
            raise UserError(self.env._("No generation of this thread has failed."))
        return failed.sorted("id")[-1].action_retry()

    def action_view_generation_jobs(self):
        """Open the jobs of this thread."""
        self.check_access("read")
        action = self.env["ir.actions.act_window"]._for_xml_id(
            "llm_generate_job.llm_generation_job_action"
        )
        return {**action, "domain": [("thread_id", "in", self.ids)], "context": {}}

    # === BUSINESS METHODS === #

    def get_generation_history(self):
        """Return the newest jobs of the thread, newest first, as dicts of plain values."""
        self.ensure_one()
        self.check_access("read")
        jobs = self.env["llm.generation.job"].search(
            [("thread_id", "=", self.id)], limit=HISTORY_LIMIT
        )
        names = (
            "name", "state", "queued_at", "started_at", "completed_at", "duration",
            "queue_duration", "error_type", "error_message", "retry_count", "prompt_tokens",
            "completion_tokens", "finish_reason",
        )  # fmt: skip
        return jobs.read(names)

    def get_generation_stats(self):
        """Return the figures of the thread's jobs as a dict."""
        self.ensure_one()
        self.check_access("read")
        counts = dict(
            self.env["llm.generation.job"]._read_group(
                [("thread_id", "=", self.id)], ["state"], ["__count"]
            )
        )
        return {
            "total": self.total_generation_jobs,
            "successful": self.successful_generation_jobs,
            "failed": self.failed_generation_jobs,
            "success_rate": self.generation_success_rate,
            "is_generating": self.is_generating,
            "last_job_state": self.last_job_state,
            "job_counts": {state: counts.get(state, 0) for state, _label in STATES},
        }

    # === CHAT PAGES === #
    # They ask through the queue, and hold no worker while they wait.

    def ask_in_queue(self, message=None, attachment_ids=None, use_queue=None):
        """Queue what is asked, where questions of this thread are queued, and return at once.

        A question that comes again while it is answered is not asked twice: who does not hear that
        it was taken, as the connection is lost, sends it again.

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
        key, files = self._identity_of_question(message, attachment_ids), attachment_ids or None
        live = self.env["llm.generation.job"]._find_live({
            "thread_id": self.id, "identity_key": key
        })  # fmt: skip
        if live and live.input_message_id != self._search_messages(ASKED, 1):
            key = None  # something was asked since: these words are meant once more
        try:
            self.enqueue_generation(message or None, attachment_ids=files, identity_key=key)
        except psycopg2.errors.UniqueViolation as error:
            raise ConcurrencyError(str(error)) from error  # the first one is just being queued
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
        mine &= Domain("post", "=", True)
        job = Job.search(mine, order="completed_at DESC, id DESC", limit=1)
        if job.state in ACTIVE_STATES:
            return Job.search(mine & Domain("state", "=", "running"), limit=1) or job
        if not job.input_message_id:
            return job
        newer = ASKED & Domain("id", ">", job.input_message_id.id)
        return job.browse() if self._search_messages(newer, 1) else job

    def _messages_since(self, job):
        """Return the messages since the oldest question that is not answered, oldest first.

        With the question of the job that ended last: a page may have shown half of its answer.
        """
        Job = self.env["llm.generation.job"]
        mine = Domain("thread_id", "=", self.id)
        jobs = Job.search(mine & Domain("state", "in", ACTIVE_STATES)) | job
        jobs |= Job.search(
            mine & Domain("state", "in", FINAL_STATES), order="completed_at DESC", limit=1
        )
        first = min(jobs.input_message_id.ids, default=job.output_message_id.id)
        if not first:
            return self.env["mail.message"]
        said = Domain("llm_role", "!=", False) & Domain("id", ">=", first)
        return self._search_messages(said, NEWS_LIMIT).sorted("id")

    def _search_messages(self, domain, limit):
        return self.env["mail.message"]._search_in(self.id, domain, limit)

    def _identity_of_question(self, message, attachment_ids):
        """Return the `identity_key` by which a question that comes twice is one job."""
        asked = repr((self.env.uid, message or "", sorted(attachment_ids or ())))
        return f"chat:{self.id}:{sha256(asked.encode()).hexdigest()}"
