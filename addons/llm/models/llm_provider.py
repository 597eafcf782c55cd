from odoo import api, fields, models
from odoo.exceptions import AccessError, UserError

from .. import openai_format


class LlmProvider(models.Model):
    """A service that answers prompts, reached through the methods ``<service>_<what>``.

    An addon that brings a service adds its code to ``_get_available_services`` and defines
    ``<service>_chat``, ``<service>_generate``, ``<service>_embedding`` and ``<service>_models``,
    as far as the service has them. ``<service>_format_messages`` and ``<service>_format_tools``
    are only needed where the wire format is not that of OpenAI.
    """

    _name = "llm.provider"
    _description = "LLM Provider"
    _inherit = ["llm.onchange.guard"]
    _order = "name, id"

    name = fields.Char(required=True)
    service = fields.Selection(selection="_selection_service", required=True)
    active = fields.Boolean(default=True)
    company_id = fields.Many2one(
        "res.company",
        default=lambda self: self.env.company,
        index=True,
        ondelete="restrict",  # without its company it would be everybody's
        help="Leave empty to share the provider between all companies.",
    )
    api_key = fields.Char(
        string="API Key",
        copy=False,
        exportable=False,
        prefetch=False,  # code that reads another field as superuser does not get it, too
        groups="llm.group_llm_manager",
    )
    api_base = fields.Char(
        string="API Base URL",
        help="Address of the service's API. Leave empty for the usual address of the service.",
    )
    model_ids = fields.One2many("llm.model", "provider_id")
    model_count = fields.Integer(compute="_compute_model_count")

    @api.depends("model_ids")
    def _compute_model_count(self):
        counts = dict(
            self.env["llm.model"]._read_group(
                [("provider_id", "in", self.ids)], ["provider_id"], ["__count"]
            )
        )
        for provider in self:
            provider.model_count = counts.get(provider, 0)

    @api.model
    def _selection_service(self):
        return self._get_available_services()

    @api.model
    def _get_available_services(self):
        """Return the ``(code, label)`` of each service; an addon that brings one appends it."""
        return []

    # === CRUD METHODS === #

    def write(self, vals):
        result = super().write(vals)
        if "company_id" in vals:
            # Record rules look at the company before: only who has settings rights shares one.
            self.check_access("write")
        return result

    # Who may write a provider reads its key: of what all companies share, who has settings rights.

    @api.readonly
    def read(self, fields=None, load="_classic_read"):
        """Read the providers; the key of one that the user may not write is read as empty."""
        mine = self._filtered_access("write")
        if self.env.su or mine == self or "api_key" not in (fields or ()):
            return super().read(fields, load)
        rows = super().read([name for name in fields if name != "api_key"], load)
        keys = {row["id"]: row["api_key"] for row in mine.read(["api_key"], load)}
        return [{**row, "api_key": keys.get(row["id"], False)} for row in rows]

    def _has_field_access(self, field, operation):
        if not super()._has_field_access(field, operation):
            return False
        stored = self._origin
        return (
            self.env.su
            or field.name != "api_key"
            or operation != "read"
            or stored._filtered_access("write") == stored
        )

    def _field_to_sql(self, alias, field_expr, query=None):
        # A search, a group or an order is over all providers, shared ones too.
        is_over_all = field_expr == "api_key" and not (self or self.env.su)
        if is_over_all and not self.env.user.has_group("base.group_system"):
            raise AccessError(self.env._("Providers are not searched or grouped by their keys."))
        return super()._field_to_sql(alias, field_expr, query)

    # === ACTION METHODS === #

    def action_fetch_models(self):
        """Ask the service for its models and open the wizard that creates and updates them."""
        self.ensure_one()
        wizard = self.env["llm.fetch.models"].create({"provider_id": self.id})
        return wizard.action_fetch()

    def action_view_models(self):
        """Open the models of the provider."""
        self.ensure_one()
        self.check_access("read")
        return {
            "type": "ir.actions.act_window",
            "name": self.env._("Models"),
            "res_model": "llm.model",
            "view_mode": "list,form",
            "domain": [("provider_id", "=", self.id)],
            "context": {"default_provider_id": self.id},
        }

    # === BUSINESS METHODS === #

    def _dispatch(self, method, *args, record=None, **kwargs):
        """Call ``<service>_<method>`` on the provider, or on ``record`` when given.

        :param record: recordset that implements the method for this service
        :raise NotImplementedError: when no installed addon implements it
        """
        self.ensure_one()
        target = self if record is None else record
        implementation = getattr(target, f"{self.service}_{method}", None)
        if implementation is None:
            raise NotImplementedError(
                self.env._(
                    "The service “%(service)s” of provider “%(provider)s” does not offer"
                    " “%(method)s”. Choose another provider, or install the addon that adds it.",
                    service=self.service,
                    provider=self.name,
                    method=method,
                )
            )
        return implementation(*args, **kwargs)

    @property
    def client(self):
        """The client of the service's library, as ``<service>_get_client()`` makes it."""
        return self._dispatch("get_client")

    def _read_api_key(self):
        """Return the key for a call of the service, empty where there is none.

        It is left in no cache: a later plain read of the provider, or of its key, in the same
        transaction asks for the rights as ever.

        :raise AccessError: when the current user may not read the provider
        """
        self.ensure_one()
        self.check_access("read")
        # sudo: who may read a provider may use its key, and not see it.
        provider = self.sudo().with_context(active_test=False)
        rows = provider._read_group([("id", "=", self.id)], ["api_key"])
        return (rows and rows[0][0]) or ""

    @api.private
    def chat(self, messages, model=None, stream=False, tools=None, prepend_messages=None, **kwargs):
        """Continue a conversation.

        :param messages: ``mail.message`` recordset, or a list of formatted messages
        :param model: ``llm.model`` record; the service chooses the default one without it
        :param tools: ``llm.tool`` recordset that the model may call
        :param list prepend_messages: formatted messages that go before the conversation
        :return: the answer, or with ``stream`` a generator of chunk dicts
        """
        return self._dispatch(
            "chat",
            messages,
            model=model,
            stream=stream,
            tools=tools,
            prepend_messages=prepend_messages,
            **kwargs,
        )

    @api.private
    def generate(self, input_data, model=None, stream=False, **kwargs):
        """Return the output dict and a list of ``url, content_type, filename`` dicts."""
        return self._dispatch("generate", input_data, model=model, stream=stream, **kwargs)

    @api.private
    def embedding(self, texts, model=None):
        """Return one vector per text."""
        return self._dispatch("embedding", texts, model=model)

    @api.private
    def list_models(self, model_id=None):
        """Return ``name`` and ``details`` dicts of the models the service has now.

        :param str model_id: name of the only model to ask about
        """
        return self._dispatch("models", model_id=model_id)

    @api.private
    def get_model(self, model=None, model_use="chat"):
        """Return the ``llm.model`` meant by ``model``, or the one to take for ``model_use``.

        :param model: record, id or name of a model of this provider
        """
        self.ensure_one()
        if not model:
            return self._get_model_for_use(model_use)
        if isinstance(model, models.BaseModel):
            found = model.filtered(lambda candidate: candidate.provider_id == self)
            label = ", ".join(model.mapped("name"))
        else:
            field = "id" if isinstance(model, int) else "name"
            found = self.model_ids.filtered(lambda candidate: candidate[field] == model)
            label = model
        if not found:
            raise UserError(
                self.env._(
                    "Provider “%(provider)s” has no model “%(model)s”. Choose one of its models,"
                    " or fetch them again from the provider.",
                    provider=self.name,
                    model=label,
                )
            )
        return found[0]

    def _get_model_for_use(self, model_use):
        candidates = self.model_ids.filtered(lambda candidate: candidate.model_use == model_use)
        found = candidates.filtered("default")[:1] or candidates[:1]
        if not found:
            uses = dict(self.env["llm.model"]._fields["model_use"]._description_selection(self.env))
            raise UserError(
                self.env._(
                    "Provider “%(provider)s” has no active model for the use “%(use)s”. Fetch its"
                    " models, or add one, in LLM > Configuration > Providers.",
                    provider=self.name,
                    use=uses.get(model_use, model_use),
                )
            )
        return found

    @api.private
    def format_messages(self, messages, system_prompt=None, model=None):
        """Return the messages as the service wants them; like OpenAI's where it does not say."""
        if hasattr(self, f"{self.service}_format_messages"):
            return self._dispatch(
                "format_messages", messages, system_prompt=system_prompt, model=model
            )
        return openai_format.format_messages(messages, system_prompt=system_prompt, model=model)

    @api.private
    def format_tools(self, tools):
        """Return the tools as the service wants them; like OpenAI's where it does not say."""
        if hasattr(self, f"{self.service}_format_tools"):
            return self._dispatch("format_tools", tools)
        return openai_format.format_tools(tools)
