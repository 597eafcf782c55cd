"""Anthropic's service, where no addon is installed that chats with it: by OpenAI's chat."""

from importlib.util import find_spec

from odoo import api, models

if not find_spec("odoo.addons.llm_anthropic"):

    class LlmProvider(models.Model):
        _inherit = "llm.provider"

        @api.model
        def _get_available_services(self):
            return [*super()._get_available_services(), ("anthropic", "Anthropic")]

        def anthropic_chat(self, *args, **kwargs):
            return self.openai_chat(*args, **kwargs)
