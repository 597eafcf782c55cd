import json

from odoo import api, fields, models
from odoo.exceptions import ValidationError

from ..const import CAPABILITY_USES, MODEL_USES, NAME_USES


class LlmModel(models.Model):
    """A model that a provider serves, for one use."""

    _name = "llm.model"
    _description = "LLM Model"
    _inherit = ["llm.onchange.guard"]
    _order = "provider_id, model_use, name, id"

    name = fields.Char(required=True, help="Name of the model in the provider's API.")
    provider_id = fields.Many2one("llm.provider", required=True, index=True, ondelete="cascade")
    company_id = fields.Many2one(related="provider_id.company_id", store=True, index=True)
    publisher_id = fields.Many2one("llm.publisher", index="btree_not_null", ondelete="set null")
    model_use = fields.Selection(MODEL_USES, default="chat", required=True)
    default = fields.Boolean(
        copy=False, help="Take this model when none is named for this provider and use."
    )
    active = fields.Boolean(default=True)
    details = fields.Json(
        help="What the provider tells about the model. The keys input_schema and output_schema"
        " hold the JSON Schemas of its inputs and outputs."
    )
    details_text = fields.Text(
        string="Details (JSON)", compute="_compute_details_text", inverse="_inverse_details_text"
    )

    _one_default = models.UniqueIndex(
        '(provider_id, model_use) WHERE "default"',
        "A provider has one default model per use. Choose only one of these models.",
    )

    @api.depends("details")
    def _compute_details_text(self):
        for model in self:
            model.details_text = json.dumps(model.details or {}, indent=2, ensure_ascii=False)

    def _inverse_details_text(self):
        for model in self:
            try:
                details = json.loads(model.details_text or "{}")
            except ValueError as error:
                raise ValidationError(
                    self.env._(
                        "The details of model “%(model)s” are not valid JSON: %(reason)s.",
                        model=model.name,
                        reason=error,
                    )
                ) from error
            if not isinstance(details, dict):
                raise ValidationError(
                    self.env._("The details of a model are a JSON object, such as {}.")
                )
            model.details = details

    # === CRUD METHODS === #

    @api.model_create_multi
    def create(self, vals_list):
        llm_models = super().create([{**vals, "default": False} for vals in vals_list])
        for model, vals in zip(llm_models, vals_list, strict=True):
            if vals.get("default"):
                model.default = True
        return llm_models

    def write(self, vals):
        if not vals.keys().isdisjoint({"default", "model_use", "provider_id"}):
            for model in self:
                if vals.get("default", model.default):
                    model._unset_other_default(
                        vals.get("provider_id", model.provider_id.id),
                        vals.get("model_use", model.model_use),
                    )
        result = super().write(vals)
        if "provider_id" in vals:
            # Record rules look at the provider before: a model is not slipped under another's.
            self.check_access("write")
        return result

    def _unset_other_default(self, provider_id, model_use):
        others = self.with_context(active_test=False).search([
            ("provider_id", "=", provider_id),
            ("model_use", "=", model_use),
            ("default", "=", True),
            ("id", "not in", self.ids),
        ])
        if others:
            others.default = False
            others.flush_recordset(["default"])  # the unique index looks at each row at once

    # === BUSINESS METHODS === #

    @api.private
    def chat(self, messages, stream=False, tools=None, prepend_messages=None, **kwargs):
        """Continue a conversation with this model, see ``chat`` of ``llm.provider``."""
        self.ensure_one()
        return self.provider_id.chat(
            messages,
            model=self,
            stream=stream,
            tools=tools,
            prepend_messages=prepend_messages,
            **kwargs,
        )

    @api.private
    def generate(self, input_data, stream=False, **kwargs):
        """Generate with this model, see ``generate`` of ``llm.provider``."""
        self.ensure_one()
        return self.provider_id.generate(input_data, model=self, stream=stream, **kwargs)

    @api.private
    def embedding(self, texts):
        """Return one vector per text."""
        self.ensure_one()
        return self.provider_id.embedding(texts, model=self)

    @api.model
    def _guess_model_use(self, name, details):
        """Return the likeliest use, by what the provider tells, else by the model's name."""
        capabilities = (details or {}).get("capabilities") or []
        for capability, model_use in CAPABILITY_USES.items():
            if capability in capabilities:
                return model_use
        for pattern, model_use in NAME_USES:
            if pattern.search(name.lower()):
                return model_use
        return "chat"
