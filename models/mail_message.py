import contextlib
import itertools
import json
import secrets
from html import unescape

from odoo import api, fields, models
from odoo.exceptions import AccessError, MissingError, UserError
from odoo.fields import Domain

from ..const import RETRYING
from ..protocol.markdown import html_to_text, place_of
from ..protocol.sanitize import ANSWER_LIMIT, can_be_stored, sanitize_body_json
from ..runner.executor import received
from .llm_generation_bounds import BOUNDS

#: Roles of what a model is given and does not say itself; a message without one is a comment.
ASKING_ROLES = (False, None, "user")
#: Roles of what is said on the way to an answer: calls of tools, and what they said.
ROUND_ROLES = ("assistant", "tool")
#: Characters of what stands in a conversation as an answer: the text of one, and its markup.
ANSWER_BOUND = 2 * ANSWER_LIMIT
#: Characters that are within all bounds, whatever the markup of them is; and what has bounds.
SHORT, BOUNDED = 10_000, ("body", "body_json", "llm_source")


class MailMessage(models.Model):
    """Keeps, bounds and orders what is said in a conversation, and leaves it to the owner."""

    _inherit = "mail.message"

    llm_source = fields.Text(
        "Source", help="What was said, as it was written; the body is made of it."
    )

    @api.model_create_multi
    def create(self, vals_list):
        messages = super().create([self._with_source(vals) for vals in vals_list])
        # What the context gives is written, too.
        given = {name: self.env.context.get(f"default_{name}") for name in BOUNDED}
        if any(self._may_be_long({**given, **vals}) for vals in vals_list):
            messages._refuse_long_messages()
        return messages

    def write(self, vals):
        if vals.get("body_json") and received(self.env, "generation_recorder"):
            vals = {**vals, "body_json": self._fit_to_be_kept(vals["body_json"])}
        result = super().write(self._with_source(vals))
        if vals.keys() & {"model", "subtype_id"} or self._may_be_long(vals):
            self._refuse_long_messages()
        return result

    def unlink(self):
        if self:
            self.check_access("unlink")
            self._withdraw()
        return super().unlink()

    def _withdraw(self):
        """Give up what these messages ask and nobody has begun to answer."""
        questions = self.filtered(lambda one: one.model == "llm.thread" and one.llm_role == "user")
        if not questions:
            return
        asked = Domain("input_message_id", "in", questions.ids)
        waiting = Domain("state", "=", "queued") | Domain(RETRYING.domain)
        # sudo: who may delete the question may end all of its jobs.
        jobs = self.env["llm.generation.job"].sudo().search(asked & waiting)
        jobs._cancel_unended()

    @api.model
    def _may_be_long(self, vals):
        """Return whether values may be beyond a bound: what is written is read for that alone."""
        if vals.get("body_json"):
            return True
        return any(len(str(vals.get(name) or "")) > SHORT for name in BOUNDED)

    @api.model
    def _with_source(self, vals):
        """Return values with the text that a new body was made of, or without that of the old."""
        if "body" not in vals:
            return vals
        return {"llm_source": getattr(vals["body"], "source", None), **vals}

    def _said(self):
        """Return what a message says as text: as it was written, else what its HTML says."""
        return self.llm_source or html_to_text(self.body)

    @contextlib.contextmanager
    def _with_places(self):
        """Have the bodies be places for texts: services read a body, and lose half of its text.

        :return: a context manager that yields the mark of the places, and the texts by number,
            for `protocol.markdown.put_texts()`
        """
        mark, field = secrets.token_hex(8), self._fields["body"]
        texts = {message.id: text for message in self if (text := message._said())}
        bodies = {message: message.body for message in self if message.id in texts}
        self.flush_recordset(["body"])  # no place is ever written
        try:
            for message in bodies:
                field._update_cache(message, place_of(mark, message.id))
            yield mark, texts
        finally:
            for message, body in bodies.items():
                field._update_cache(message, body)

    def _fit_to_be_kept(self, data):
        """Return what a tool or a model says; the family writes it on the message of the call."""
        said = self.filtered(
            lambda one: one.model == "llm.thread" and one.llm_role not in ASKING_ROLES
        )
        if not said:
            return data
        key = self.env["llm.thread"].browse(said[0].res_id).provider_id._told_key()
        return sanitize_body_json(data, key, shortened=said[0].llm_role != "assistant")

    def _refuse_long_messages(self):
        # What a provider says was cut to its bounds while it came, and its markup may be longer.
        is_cut = self.env.su or received(self.env, "generation_recorder")
        # sudo: how long a message is depends on nobody's rights.
        for message in self.sudo().filtered(lambda one: one.model == "llm.thread"):
            self._refuse_long_question(message.llm_source, None, ANSWER_BOUND)
            if message.llm_role in ASKING_ROLES:
                self._refuse_long_question(message.body, message.body_json)
            elif not is_cut:
                self._refuse_long_question(
                    unescape(message.body or ""), message.body_json, ANSWER_BOUND
                )

    @api.model
    def _refuse_long_question(self, body, data, bound=BOUNDS["html"]):
        """Refuse what is said in a conversation and nobody would keep.

        :param str body: of the message
        :param data: its `body_json`
        :param int bound: characters of the body
        :raise UserError: with the bound
        """
        if not can_be_stored(data):
            raise UserError(
                self.env._("The inputs of the message are nested too deeply, or no JSON.")
            )
        is_long = len(body or "") > bound
        if is_long or (data and len(json.dumps(data, default=str)) > BOUNDS["json"]):
            raise UserError(
                self.env._(
                    "The message is longer than %s characters; make it shorter, or attach a file.",
                    bound,
                )
            )

    def _get_forbidden_access(self, operation):
        """Leave the messages of a conversation to its owner, in whose name jobs work with them.

        Mail lets an author, a follower and whoever was mentioned write more than the document.
        """
        if operation == "read":
            return super()._get_forbidden_access(operation)
        # sudo: where a message is may be asked of one that cannot be read.
        ours = self.sudo().filtered(lambda one: one.model == "llm.thread" and one.res_id)
        threads = self.env["llm.thread"].browse(set(ours.mapped("res_id")))
        try:
            writable = threads._filtered_access("write")._ids
        except MissingError:  # messages outlive a thread that went with its owner
            writable = threads.exists()._filtered_access("write")._ids
        forbidden = ours.filtered(lambda one: one.res_id not in writable).sudo(False)
        rest = self - forbidden
        if self.env.user._is_internal():
            # Who works here and may write a thread may do so with its messages: mail would ask the
            # same, with statements, of each message that has just been made.
            rest -= ours.filtered(lambda one: one.message_type != "user_notification").sudo(False)
        if rest:
            forbidden |= super(MailMessage, rest)._get_forbidden_access(operation)
        return forbidden

    @api.model
    def _search_in(self, thread_id, domain, limit=None):
        """Return the messages of a thread that a domain is about, the newest first."""
        here = Domain("model", "=", "llm.thread") & Domain("res_id", "=", thread_id)
        self.flush_model(["llm_role", "is_error"])  # the search of mail flushes its own fields only
        return self.search(here & domain, order="id DESC", limit=limit)

    # === THE ORDER OF A CONVERSATION === #
    # Whatever is said for an answer has its question as parent, see `message_post()` of the thread.

    def _as_asked(self, question=None):
        """Return these messages of a thread in the order of the conversation, up to a question.

        An answer follows the question that it answers, whatever was asked meanwhile. What came
        after the question is left out, but for the tool calls that were already made for it: an
        answer that failed after them goes on from there.

        :param question: the last message, of which an answer is wanted; none for all of them
        """
        messages = self
        if question:
            messages = self._without_later(question) | question._rounds_since(self) | question
        ordered = messages.sorted(lambda one: one._place())._with_whole_calls()
        if not question:
            return ordered
        own = ordered.filtered(lambda one: one._place()[0] == question.id and one != question)
        calls = own.filtered(lambda one: one.llm_role == "tool" or one._tool_calls())
        return (ordered - own - question) + question + calls

    def _without_later(self, question):
        """Leave out what was said after a question and not for it.

        The newest messages of a thread were asked for: as many as are left out are read before.
        """
        earlier = self.filtered(lambda one: one._place()[0] <= question.id)
        if len(earlier) == len(self):
            return earlier
        until = Domain("id", "<=", question.id) | Domain("parent_id", "<=", question.id)
        said = Domain("llm_role", "!=", False) & Domain("is_error", "=", False)
        more = self._search_in(question.res_id, said & until, limit=len(self))
        return earlier | more.filtered(lambda one: one._place()[0] <= question.id)

    def _rounds_since(self, given):
        """Return what tools were called for this question, and what they said.

        A long answer has more of it than the newest messages, of which a model would be given only
        the end, and call again what it has called.

        :param given: messages of which these are not looked for, where they begin before
        """
        if given[:1].id <= self.id:
            return self.browse()
        rounds = Domain("parent_id", "=", self.id) & Domain("is_error", "=", False)
        return self._search_in(self.res_id, rounds & Domain("llm_role", "in", ROUND_ROLES))

    def _place(self):
        """Return by what a message is sorted: the id of its question, and its own."""
        parent = self.parent_id
        answers = self.llm_role != "user" and parent.llm_role in {"user", "tool"}
        return (parent.id if answers else self.id, self.id)

    def _tool_calls(self):
        """Return the tools that the model calls in a message, as the services have them."""
        data = self.body_json if self.llm_role == "assistant" else None
        calls = data.get("tool_calls") if isinstance(data, dict) else None
        return [call for call in calls or () if isinstance(call, dict)]

    def _tool_results(self):
        """Return what the tools of this answer said, as messages by the ids of the calls."""
        rounds = Domain("id", ">", self.id) & Domain("llm_role", "in", ROUND_ROLES)
        later = self._search_in(self.res_id, rounds).sorted("id")
        own = itertools.takewhile(lambda one: one.llm_role == "tool" or one.is_error, later)
        return {one._tool_call_id(): one for one in own if one._tool_call_id()}

    def _tool_call_id(self):
        """Return which call a message has the result of."""
        data = self.body_json if self.llm_role == "tool" else None
        return data.get("tool_call_id") if isinstance(data, dict) else None

    def _with_whole_calls(self):
        """Leave out calls that were not all answered, and answers to no call.

        Services refuse a conversation that has one.
        """
        whole = group = self.browse()
        missing = []
        for message in self:
            if message.llm_role != "tool":
                missing, group = [call.get("id") for call in message._tool_calls()], message
            elif (call_id := message._tool_call_id()) in missing:
                missing.remove(call_id)
                group += message
            else:
                continue
            if not missing:
                whole += group
        return whole


class MailThread(models.AbstractModel):
    """What Odoo's mail gateway may do, which runs as superuser and which anybody can call."""

    _inherit = "mail.thread"

    def _get_message_create_valid_field_names(self):
        return super()._get_message_create_valid_field_names() | {"llm_source"}

    @api.model
    def _message_route_process(self, message, message_dict, routes):
        """Take values of what a mail creates from the gateway only.

        `message_process()` is within the reach of an RPC, and creates in the name of whoever is
        said to be the sender, as superuser.

        :raise AccessError: for values of somebody else
        """
        given = any(values and not alias for _model, _id, values, _uid, alias in routes or ())
        if given and not self.env.su and not self.env.user.has_group("base.group_system"):
            raise AccessError(
                self.env._(
                    "Only an administrator chooses the values of what an incoming mail creates."
                )
            )
        return super()._message_route_process(message, message_dict, routes)

    @api.model
    def _refuse_mail(self):
        raise UserError(
            self.env._(
                "Conversations with a model and queues take no mail. Write in the conversation"
                " itself."
            )
        )
