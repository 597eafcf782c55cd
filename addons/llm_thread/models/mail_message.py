from odoo import models


class MailMessage(models.Model):
    _inherit = "mail.message"

    def _get_forbidden_access(self, operation):
        """Leave the messages of a conversation to its owner, whose rights the model works with.

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

    def write(self, vals):
        result = super().write(vals)
        if vals.keys() & {"model", "res_id"}:
            # What was asked before is where the message came from.
            self.check_access("write")
        return result
