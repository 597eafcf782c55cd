import time

from odoo import api, models

#: Seconds between what a tool does and its end.
SECONDS = 0.1


class LlmTool(models.Model):
    """A tool that leaves a row behind each time it runs, whoever's `llm_tool` it is."""

    _inherit = "llm.tool"

    @api.model
    def _get_available_implementations(self):
        return [*super()._get_available_implementations(), ("fault_note", "Fault: Note")]

    def execute(self, parameters):
        if self.implementation != "fault_note":
            return super().execute(parameters)
        return self.fault_note_execute(**parameters)

    def fault_note_execute(self, key: str) -> dict:
        """Note a key, and take some time for it.

        :param key: what to note
        """
        self.env["res.partner.category"].create({"name": key})
        self.env.flush_all()
        time.sleep(SECONDS)
        return {"noted": key}

    def fault_note_input_schema(self):
        return {"type": "object", "properties": {"key": {"type": "string"}}, "required": ["key"]}
