from markupsafe import Markup

from odoo import models

from ..protocol.sanitize import sanitize_body_json
from ..runner.executor import received
from .mail_message import ASKING_ROLES


class LlmThread(models.Model):
    """What is promised of conversations and not each `llm_thread` keeps."""

    _inherit = "llm.thread"

    def write(self, vals):
        result = super().write(vals)
        if "user_id" in vals:
            # Record rules look at the owner before: nobody may push a thread onto another.
            self.check_access("write")
        return result

    def _process_llm_body(self, body):
        """Return an answer as HTML that is known as such.

        The family makes HTML of it and posts that as a text, which shows its tags.
        """
        inherited = getattr(super(), "_process_llm_body", None)
        return Markup(inherited(body)) if inherited and body else body


class MailMessage(models.Model):
    """Keeps short what is written on a message while an answer is made, without the key."""

    _inherit = "mail.message"

    def write(self, vals):
        if vals.get("body_json") and received(self.env, "generation_recorder"):
            vals = {**vals, "body_json": self._fit_to_be_kept(vals["body_json"])}
        return super().write(vals)

    def _fit_to_be_kept(self, data):
        """Return what a tool or a model says; the family writes it on the message of the call."""
        said = self.filtered(
            lambda one: one.model == "llm.thread" and one.llm_role not in ASKING_ROLES
        )
        if not said:
            return data
        key = self.env["llm.thread"].browse(said[0].res_id).provider_id._told_key()
        return sanitize_body_json(data, key, shortened=said[0].llm_role != "assistant")
