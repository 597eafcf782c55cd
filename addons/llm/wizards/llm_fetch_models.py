from itertools import islice

from odoo import api, fields, models
from odoo.exceptions import UserError
from odoo.fields import Command

#: Models of one provider that are shown: each is a record and a row of a form.
MOST_MODELS = 5000


class LlmFetchModels(models.TransientModel):
    """What a provider serves now, beside what is known of it."""

    _name = "llm.fetch.models"
    _description = "Fetch LLM Models"
    _inherit = ["llm.onchange.guard"]

    provider_id = fields.Many2one("llm.provider", required=True, readonly=True, ondelete="cascade")
    line_ids = fields.One2many("llm.fetch.models.line", "wizard_id")

    # Of whatever a record names, who may read it is shown the name.

    @api.model_create_multi
    def create(self, vals_list):
        wizards = super().create(vals_list)
        wizards.provider_id.check_access("read")
        return wizards

    def write(self, vals):
        result = super().write(vals)
        self.provider_id.check_access("read")
        return result

    def action_fetch(self):
        """Fill the wizard with the provider's models and show it."""
        self.ensure_one()
        try:
            # Of some services it is a generator, which asks when it is read.
            fetched = list(islice(self.provider_id.list_models(), MOST_MODELS))
        except NotImplementedError as error:
            raise UserError(
                self.env._(
                    "The service of provider “%(provider)s” cannot list its models. Add them by"
                    " hand in LLM > Configuration > Models.",
                    provider=self.provider_id.name,
                )
            ) from error
        by_name = {data["name"]: data.get("details") or {} for data in fetched}
        if not by_name:
            raise UserError(
                self.env._(
                    "Provider “%(provider)s” answered that it serves no model. Check its address"
                    " and key.",
                    provider=self.provider_id.name,
                )
            )
        self.line_ids = [Command.clear()] + [
            Command.create(self._prepare_line(name, details))
            for name, details in sorted(by_name.items())
        ]
        return {
            "type": "ir.actions.act_window",
            "name": self.env._("Fetch Models"),
            "res_model": self._name,
            "res_id": self.id,
            "view_mode": "form",
            "target": "new",
        }

    def _prepare_line(self, name, details):
        known = self.provider_id.with_context(active_test=False).model_ids.filtered(
            lambda model: model.name == name
        )[:1]
        status = "new"
        if known:
            status = "known" if (known.details or {}) == details else "changed"
        return {
            "name": name,
            "details": details,
            "model_id": known.id,
            "model_use": known.model_use or self.env["llm.model"]._guess_model_use(name, details),
            "status": status,
            "selected": status != "known",
        }

    def action_apply(self):
        """Create and update the selected models."""
        self.ensure_one()
        selected = self.line_ids.filtered("selected")
        if not selected:
            raise UserError(self.env._("Select at least one model."))
        for line in selected.filtered("model_id"):
            line.model_id.write({"details": line.details, "model_use": line.model_use})
        self.env["llm.model"].create([
            {
                "name": line.name,
                "provider_id": self.provider_id.id,
                "model_use": line.model_use,
                "details": line.details,
            }
            for line in selected
            if not line.model_id
        ])
        return self.provider_id.action_view_models()
