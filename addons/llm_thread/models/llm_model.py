from odoo import api, models
from odoo.exceptions import ValidationError


class LlmModel(models.Model):
    _inherit = "llm.model"

    @api.constrains("provider_id")
    def _check_threads(self):
        """Keep a model where its conversations ask it."""
        for model in self:
            elsewhere = [("model_id", "=", model.id), ("provider_id", "!=", model.provider_id.id)]
            # sudo: whoever's conversations they are.
            threads = self.env["llm.thread"].sudo().with_context(active_test=False)
            if threads.search_count(elsewhere, limit=1):
                raise ValidationError(
                    self.env._(
                        "%s is asked in conversations, and stays with its provider. Add a model of"
                        " the same name to the other one.",
                        model.name,
                    )
                )
