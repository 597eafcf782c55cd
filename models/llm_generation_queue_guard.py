from odoo import api, models
from odoo.exceptions import AccessError

#: What the engine, or the provider, brought about: nobody writes it over RPC.
ENGINE_FIELDS = frozenset({"company_id", "paused_until", "refused_by"})


class LlmGenerationQueue(models.Model):
    """Who may write what of a queue. The engine writes as superuser; over RPC nobody is that."""

    _inherit = "llm.generation.queue"

    @api.model_create_multi
    def create(self, vals_list):
        given = {key.removeprefix("default_") for key in self.env.context if key[:8] == "default_"}
        self._refuse_by_hand(given.union(*vals_list) & self._engine_fields())
        return super().create(vals_list)

    def write(self, vals):
        self._refuse_by_hand(vals.keys() & (self._engine_fields() | {"provider_id"}))
        return super().write(vals)

    @api.model
    def _engine_fields(self):
        return ENGINE_FIELDS

    @api.model
    def _refuse_by_hand(self, names):
        if names and not self.env.su:
            raise AccessError(
                self.env._(
                    "%(fields)s of a queue cannot be set by hand.", fields=", ".join(sorted(names))
                )
            )
