import json
from html import unescape

from odoo import api, models
from odoo.exceptions import UserError

from ..protocol.sanitize import ANSWER_LIMIT, can_be_stored
from ..runner.executor import received
from .llm_generation_bounds import BOUNDS

#: Roles of what a model is given and does not say itself; a message without one is a comment.
ASKING_ROLES = (False, "user")
#: Characters of what stands in a conversation as an answer: the text of one, and its markup.
ANSWER_BOUND = 2 * ANSWER_LIMIT


class MailMessage(models.Model):
    """Bounds what is said in a conversation, and leaves it to the owner."""

    _inherit = "mail.message"

    @api.model_create_multi
    def create(self, vals_list):
        messages = super().create(vals_list)
        messages._refuse_long_messages()
        return messages

    def write(self, vals):
        result = super().write(vals)
        if vals.keys() & {"body", "body_json", "model", "subtype_id"}:
            self._refuse_long_messages()
        return result

    def _refuse_long_messages(self):
        # What a provider says was cut to its bounds while it came, and its markup may be longer.
        is_cut = self.env.su or received(self.env, "generation_recorder")
        # sudo: how long a message is depends on nobody's rights.
        for message in self.sudo().filtered(lambda one: one.model == "llm.thread"):
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
        forbidden = super()._get_forbidden_access(operation)
        if operation == "read":
            return forbidden
        # sudo: where a message is may be asked of one that cannot be read.
        ours = (self - forbidden).sudo().filtered(lambda one: one.model == "llm.thread")
        threads = self.env["llm.thread"].browse(set(ours.mapped("res_id")))
        writable = threads._filtered_access("write")._ids
        return forbidden | ours.filtered(lambda one: one.res_id not in writable).sudo(False)
