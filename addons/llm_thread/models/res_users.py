from odoo import models


class ResUsers(models.Model):
    _inherit = "res.users"

    def unlink(self):
        """Delete users, and what was said in their conversations."""
        # The database deletes the conversations with their owners, and nothing that is in them.
        # sudo: nobody else may read what they are.
        threads = self.env["llm.thread"].sudo().with_context(active_test=False)
        threads = threads.search([("user_id", "in", self.ids)])
        within = [("res_model", "=", threads._name), ("res_id", "in", threads.ids)]
        said = [("model", "=", threads._name), ("res_id", "in", threads.ids)]
        left = [
            threads.env[model].search(domain)
            for model, domain in (
                ("mail.message", said), ("mail.followers", within), ("ir.attachment", within),
            )
        ]  # fmt: skip
        result = super().unlink()
        for records in left:
            records.exists().unlink()
        return result
