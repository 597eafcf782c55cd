from odoo import api, fields, models
from odoo.tools.sql import column_exists, create_column

from ..const import LLM_ROLES


class MailMessage(models.Model):
    _inherit = "mail.message"

    llm_role = fields.Selection(
        LLM_ROLES, string="LLM Role", compute="_compute_llm_role", store=True, precompute=True
    )
    body_json = fields.Json(
        string="Structured Body", help="Tool calls, tool results and inputs of a generation."
    )
    is_error = fields.Boolean(help="The message tells why an answer could not be given.")

    _llm_conversation_idx = models.Index("(model, res_id, id) WHERE llm_role IS NOT NULL")

    def _auto_init(self):
        # No message can have a role yet: spare the computation over all messages ever sent.
        if not column_exists(self.env.cr, "mail_message", "llm_role"):
            create_column(self.env.cr, "mail_message", "llm_role", "varchar")
        return super()._auto_init()

    @api.depends("subtype_id")
    def _compute_llm_role(self):
        roles = {self._get_llm_subtype_id(role): role for role, _label in LLM_ROLES}
        roles.pop(False, None)
        for message in self:
            message.llm_role = roles.get(message.subtype_id.id)

    @api.model
    def _get_llm_subtype_id(self, role):
        """Return the id of the message subtype that marks a message of the role."""
        return self.env["ir.model.data"]._xmlid_to_res_id(f"llm.mt_{role}")

    @api.private
    def to_store_format(self):
        """Return the message as plain data, fit for JSON, for clients that show a conversation."""
        self.ensure_one()
        return {
            "id": self.id,
            "model": self.model,
            "res_id": self.res_id,
            "body": str(self.body or ""),
            "llm_role": self.llm_role,
            "body_json": self.body_json,
            "is_error": self.is_error,
            # sudo: whoever may read the message sees its author's name, as in the chatter.
            "author_name": self.author_id.sudo().name or self.email_from or False,
            "date": fields.Datetime.to_string(self.date),
            "attachments": [
                {
                    "id": attachment.id,
                    "name": attachment.name,
                    "mimetype": attachment.mimetype,
                    "url": f"/web/content/{attachment.id}",
                }
                for attachment in self.attachment_ids
            ],
        }
