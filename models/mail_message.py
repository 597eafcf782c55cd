import json

from odoo import api, models
from odoo.exceptions import UserError

from ..protocol.sanitize import can_be_stored
from .llm_generation_bounds import BOUNDS

#: Roles of what a model is given and does not say itself; a message without one is a comment.
ASKING_ROLES = (False, "user")


class MailMessage(models.Model):
    """Bounds questions to a model, and leaves the messages of a conversation to its owner."""

    _inherit = "mail.message"

    @api.model_create_multi
    def create(self, vals_list):
        messages = super().create(vals_list)
        messages._refuse_long_questions()
        return messages

    def write(self, vals):
        result = super().write(vals)
        if vals.keys() & {"body", "body_json", "model", "subtype_id"}:
            self._refuse_long_questions()
        return result

    def _refuse_long_questions(self):
        # sudo: how long a message is depends on nobody's rights.
        for message in self.sudo():
            if message.model == "llm.thread" and message.llm_role in ASKING_ROLES:
                self._refuse_long_question(message.body, message.body_json)

    @api.model
    def _refuse_long_question(self, body, data):
        """Refuse what is asked of a model and nobody would keep.

        :param str body: of the message
        :param data: its `body_json`
        :raise UserError: with the bound
        """
        if not can_be_stored(data):
            raise UserError(
                self.env._("The inputs of the message are nested too deeply, or no JSON.")
            )
        is_long = len(body or "") > BOUNDS["html"]
        if is_long or (data and len(json.dumps(data, default=str)) > BOUNDS["json"]):
            raise UserError(
                self.env._(
                    "The message is longer than %s characters; make it shorter, or attach a file.",
                    BOUNDS["html"],
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
