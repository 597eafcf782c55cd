import contextlib
from datetime import timedelta

import psycopg2
from markupsafe import Markup

from odoo import api, fields, models
from odoo.exceptions import UserError, ValidationError
from odoo.fields import Domain

from ..answer_stream import AnswerStream
from ..exceptions import ThreadBusyError
from ..growing_message import GrowingMessage, data_of
from ..lock import advisory_lock
from ..markup import markdown_to_html, text_to_html
from ..stream_slots import stream_slot
from ..tool_runner import mark_of, run_tool

#: answers of the model to one question, the last of them without tools
MAX_TURNS = 10
#: messages of the past given to the model
HISTORY_LIMIT = 25
#: messages shown when a thread is opened
SHOWN_MESSAGES = 200
#: conversations that are removed at once
GC_LIMIT = 1000
CHAT_USES = ("chat", "multimodal")


class LlmThread(models.Model):
    """A conversation with a model. How it is held is in README.md."""

    _name = "llm.thread"
    _description = "LLM Thread"
    _inherit = ["mail.thread", "llm.onchange.guard"]
    _order = "write_date desc, id desc"

    name = fields.Char(required=True, default=lambda self: self._default_name())
    user_id = fields.Many2one(
        "res.users",
        string="Owner",
        required=True,
        index=True,
        default=lambda self: self.env.user,
        ondelete="cascade",
    )
    provider_id = fields.Many2one(
        "llm.provider",
        required=True,
        index=True,
        default=lambda self: self._default_provider(),
        ondelete="restrict",
    )
    model_id = fields.Many2one(
        "llm.model",
        required=True,
        index=True,
        compute="_compute_model_id",
        store=True,
        readonly=False,
        precompute=True,
        domain="[('provider_id', '=', provider_id), ('model_use', '!=', 'embedding')]",
        ondelete="restrict",
    )
    company_id = fields.Many2one(
        "res.company",
        compute="_compute_company_id",
        store=True,
        precompute=True,
        index=True,
        ondelete="restrict",  # without its company nobody would see it
    )
    model = fields.Char(string="Related Model", help="Technical name, as res.partner.")
    res_id = fields.Many2oneReference("Related Record", model_field="model", index=True)
    tool_ids = fields.Many2many(
        "llm.tool", string="Tools", help="What the model may do, with the owner's rights."
    )
    active = fields.Boolean(default=True)

    @api.model
    def _default_name(self):
        return self.env._("New conversation")

    @api.model
    def _default_provider(self):
        return self.env["llm.provider"].search([("model_ids.model_use", "in", CHAT_USES)], limit=1)

    @api.depends("provider_id")
    def _compute_model_id(self):
        for thread in self:
            if thread.model_id.provider_id != thread.provider_id:
                candidates = thread.provider_id.model_ids.filtered(
                    lambda model: model.model_use in CHAT_USES
                )
                thread.model_id = candidates.sorted("default", reverse=True)[:1]

    @api.depends("user_id", "provider_id")
    def _compute_company_id(self):
        """A conversation belongs to a company of its owner, also where its provider is shared."""
        for thread in self:
            owner = thread.user_id.sudo()  # sudo: whose company it is follows, whoever asks
            candidates = [
                # sudo: whose provider it is may be asked by who may not use it.
                thread.provider_id.sudo().company_id,
                thread.company_id,
            ]
            if owner == self.env.user:
                candidates.append(self.env.company)
            own = owner._get_company_ids()
            thread.company_id = next(
                (company for company in candidates if company.id in own), owner.company_id
            )

    @api.autovacuum
    def _gc_empty(self):
        """Remove conversations of days gone by in which nothing was said, kept or prepared."""
        for thread in self.with_context(active_test=False).search(
            self._empty_domain(), order="id", limit=GC_LIMIT
        ):
            # Another addon may hold on to one that looks empty here.
            with contextlib.suppress(psycopg2.IntegrityError, UserError), self.env.cr.savepoint():
                thread.unlink()

    @api.model
    def _empty_domain(self):
        """Return the domain of what looks as nobody has touched it."""
        languages = self.env["res.lang"].get_installed()
        names = {self.with_context(lang=code)._default_name() for code, _name in languages}
        yesterday = fields.Datetime.now() - timedelta(days=1)
        said = self.env["mail.message"]._search(
            Domain("model", "=", self._name)
            & Domain("res_id", "!=", False)
            & (
                Domain("llm_role", "!=", False)
                | Domain("message_type", "in", ("comment", "email"))
                | Domain("attachment_ids", "!=", False)
            )
        )
        kept = self.env["ir.attachment"]._search([
            ("res_model", "=", self._name),
            ("res_id", "!=", False),
            ("res_field", "in", (False, *self._fields)),
        ])
        return (
            Domain("name", "in", list(names))
            & Domain("write_date", "<", yesterday)
            & Domain("res_id", "in", (False, 0))
            & Domain("tool_ids", "=", False)
            & ~Domain("id", "in", said.subselect("res_id"))
            & ~Domain("id", "in", kept.subselect("res_id"))
        )

    @api.constrains("provider_id", "model_id")
    def _check_model_id(self):
        for thread in self:
            if thread.model_id.provider_id != thread.provider_id:
                raise ValidationError(
                    self.env._(
                        "%(model)s is no model of %(provider)s. Choose one of its models.",
                        model=thread.model_id.name,
                        provider=thread.provider_id.name,
                    )
                )

    @api.model_create_multi
    def create(self, vals_list):
        threads = super().create(vals_list)
        threads._check_usable(set().union(*vals_list))
        return threads

    def write(self, vals):
        result = super().write(vals)
        if vals.keys() & {"user_id", "company_id", "provider_id"}:
            # Record rules look at the values before: nobody may push a thread onto another user or
            # company.
            self.check_access("write")
        self._check_usable(vals.keys())
        return result

    def _check_usable(self, names):
        """Refuse what was chosen for a conversation and its owner may not read."""
        for name in {"provider_id", "model_id", "tool_ids"} & set(names):
            self[name].check_access("read")

    # === MESSAGES === #

    def message_post(self, *, llm_role=None, body_json=None, is_error=False, **kwargs):
        """Post a message, with an `llm_role` one of the conversation.

        The body of a conversation's message is plain text, or markup that is already HTML.
        """
        if llm_role:
            kwargs["subtype_id"] = self.env["ir.model.data"]._xmlid_to_res_id(
                f"llm.mt_{llm_role}", raise_if_not_found=True
            )
            kwargs.setdefault("message_type", "comment")
            if llm_role != "user":
                kwargs.setdefault("author_id", False)
            body = kwargs.get("body") or ""
            if not isinstance(body, Markup) and not kwargs.get("body_is_html"):
                is_answer = llm_role == "assistant"
                kwargs["body"] = self._process_llm_body(body) if is_answer else text_to_html(body)
        if body_json is not None:
            kwargs["body_json"] = body_json
        if is_error:
            kwargs["is_error"] = True
        message = super().message_post(**kwargs)
        if llm_role == "user":
            self._rename_after(message)
        return message

    def _process_llm_body(self, body):
        """Return what a model wrote as HTML."""
        return body if isinstance(body, Markup) else markdown_to_html(body)

    # Mail comes as superuser, in the name of whoever is said to have sent it.

    @api.model
    @api.private
    def message_new(self, msg_dict, custom_values=None):
        """Refuse what comes by mail.

        :raise UserError: always
        """
        self._refuse_incoming_mail()

    @api.private
    def message_update(self, msg_dict, update_vals=None):
        """Refuse what comes by mail.

        :raise UserError: always
        """
        self._refuse_incoming_mail()

    @api.model
    def _refuse_incoming_mail(self):
        raise UserError(
            self.env._("Conversations with a model take no mail. Write in the conversation itself.")
        )

    def _notify_thread(self, message, msg_vals=False, **kwargs):
        # A conversation is read where it is held: no mail and no inbox entry for its messages.
        if message.llm_role:
            return []
        return super()._notify_thread(message, msg_vals=msg_vals, **kwargs)

    def _store_message(self, message):
        """Return a message as events and the client have it."""
        return message.to_store_format()

    def _event(self, event_type, message, **values):
        return {"type": event_type, "message": self._store_message(message), **values}

    @api.readonly
    def get_conversation(self, since=0):
        """Return the newest messages of the conversation, oldest first.

        :param int since: id of the first message that is wanted
        """
        self.ensure_one()
        self.check_access("read")
        messages = self._search_conversation([("id", ">=", since)], SHOWN_MESSAGES)
        return [self._store_message(message) for message in messages]

    def _search_conversation(self, domain, limit):
        """Return the newest messages of the conversation that fit a domain, oldest first."""
        domain = (
            Domain("model", "=", self._name)
            & Domain("res_id", "=", self.id)
            & Domain("llm_role", "!=", False)
            & Domain(domain)
        )
        messages = self.env["mail.message"]
        # The search of messages does not flush what its domain is about.
        messages.flush_model(["llm_role", "is_error"])
        return messages.search(domain, order="id desc", limit=limit).sorted("id")

    # === GENERATION === #

    @api.private
    def generate(self, user_message_body=None, attachment_ids=None, **kwargs):
        """Post the user's message, where there is one, and yield the events of the answer.

        Holds the lock of the thread until the generator ends or is closed, and commits nothing.

        :param kwargs: further arguments of `message_post()`
        :raise ThreadBusyError: when the thread is generating already; nothing is written
        """
        self.ensure_one()
        with self._generation_lock():
            last_message = None
            if user_message_body or attachment_ids:
                last_message = self.message_post(
                    body=user_message_body or "",
                    llm_role="user",
                    attachment_ids=attachment_ids,
                    **kwargs,
                )
                yield self._event("message_create", last_message)
            return (yield from self.generate_messages(last_message))  # noqa: B901 - to "yield from"

    @api.model
    def _open_stream_cursor(self):
        """Return the cursor on which an answer is streamed; it outlives that of its request."""
        return self.env.registry.cursor()

    @api.model
    def _stream_slot(self):
        """Return a context of one more stream for the user, which yields whether there is room."""
        return stream_slot(self.env.cr.dbname, self.env.uid)

    @contextlib.contextmanager
    def _generation_lock(self):
        with advisory_lock(self.env.cr.dbname, self.id) as locked:
            if not locked:
                raise ThreadBusyError(
                    self.env._("This conversation is writing an answer already. Wait for its end.")
                )
            yield

    def _rename_after(self, message):
        if self.name == self._default_name() and message.preview:
            self.name = message.preview[:60]

    @api.private
    def generate_messages(self, last_message=None):
        """Let the model answer, and yield the events of its answers and of the tools it calls.

        The event before a tool runs has the mark that it was called, the one after it its result:
        who commits at each event has no tool run twice, however the process ends.

        :param last_message: the question; without it, whatever was said last. What tools did for
            it already counts, and is not done again.
        """
        self.ensure_one()
        messages = self.get_llm_messages()
        if last_message and last_message not in messages:
            messages += last_message
        if not messages:
            raise UserError(self.env._("There is nothing to answer: write a message first."))
        done = self._turns_with_tools(messages, last_message)
        for turn in range(min(1 + len(done), MAX_TURNS), MAX_TURNS + 1):
            tools = self.tool_ids if turn < MAX_TURNS else self.tool_ids.browse()
            answer = yield from self.message_post_from_stream(
                self._chat(messages, tools), "assistant"
            )
            calls = tools and data_of(answer).get("tool_calls")
            if not calls:
                return answer
            messages += answer
            for call in calls:
                result = self.message_post(
                    body=self.env._("Tool: %s", call["function"]["name"]),
                    body_json=mark_of(call),
                    llm_role="tool",
                )
                messages += result
                yield self._event("message_create", result)
                result.body_json = run_tool(self, call)
                yield self._event("message_update", result)
        return answer  # noqa: B901 - to "yield from"

    def _turns_with_tools(self, messages, question):
        """Return those of the messages that called tools for a question, by default the last."""
        question = question or messages.filtered(lambda one: one.llm_role == "user")[-1:]
        return messages.filtered(
            lambda one: one.id > (question.id or 0) and data_of(one).get("tool_calls")
        )

    @api.private
    def get_llm_messages(self, limit=HISTORY_LIMIT):
        """Return the newest messages of the conversation that a model may get, oldest first."""
        return self._search_conversation([("is_error", "=", False)], limit)

    def _chat(self, messages, tools):
        return self.provider_id.chat(
            messages,
            model=self.model_id,
            stream=True,
            tools=tools or None,
            prepend_messages=self.get_prepend_messages() or None,
        )

    @api.private
    def get_prepend_messages(self):
        """Return what the model is told before the conversation, as role and content dicts."""
        context = self.get_context() if self.res_id else {}
        if not context.get("related_record"):
            return []
        sentence = self.env._(
            "This conversation is about the record “%(related_record)s” (%(related_model)s,"
            " id %(related_res_id)s).",
            **context,
        )
        return [{"role": "system", "content": sentence}]

    def get_context(self):
        """Return what a prompt can tell about the thread and its related record.

        The record's keys are there when it exists and the current user may read it.
        """
        self.ensure_one()
        context = {
            "thread_name": self.name,
            "user_name": self.user_id.name,
            "lang": self.env.lang or "en_US",
            "today": fields.Date.to_string(fields.Date.context_today(self)),
        }
        if self.model in self.env and self.res_id:
            record = self.env[self.model].browse(self.res_id).exists()
            if record and record.has_access("read"):
                context |= {
                    "related_model": self.model,
                    "related_res_id": self.res_id,
                    "related_record": record.display_name,
                }
        return context

    # === STREAMING === #

    @api.private
    def message_post_from_stream(self, stream, llm_role, placeholder_text="…", **kwargs):
        """Post a message that grows with the chunks of a stream, and yield its events.

        Nothing is written before the first chunk. A stream that fails leaves the message with what
        came, marked as an error; then its exception goes on to the caller.

        :param placeholder_text: body of a message that has no text yet
        :param kwargs: further arguments of `message_post()`
        :return: the message
        """
        self.ensure_one()
        growing = GrowingMessage(self, llm_role, placeholder_text, kwargs)
        return (yield from growing.follow(AnswerStream(stream)))  # noqa: B901 - the message
