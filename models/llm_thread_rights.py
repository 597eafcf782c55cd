from markupsafe import Markup

from odoo import models


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
