from odoo import api, models

#: What tells a manager which action it is. Other fields hold addresses, code and values, and those
#: of addons that nobody knows yet.
TELLING_FIELDS = frozenset({
    "display_name",
    "id",
    "model_id",
    "model_name",
    "name",
    "sequence",
    "state",
    "type",
    "usage",
})


class IrActionsServer(models.Model):
    _inherit = "ir.actions.server"

    def unlink(self):
        # sudo: what tools tell of their actions is so for everybody.
        tools = self.env["llm.tool"].sudo().with_context(active_test=False)
        tools = tools.search([("server_action_ids", "in", self.ids)])
        result = super().unlink()
        tools.invalidate_recordset(["server_action_ids"])
        self.env.add_to_compute(tools._fields["input_schema"], tools)
        return result

    @api.model
    def _has_field_access(self, field, operation):
        """Let managers of models, who choose actions for a tool, read no more than what they are.

        By Odoo's own rights only administrators read server actions.
        """
        if not super()._has_field_access(field, operation):
            return False
        user = self.env.user
        return (
            self.env.su
            or field.name in TELLING_FIELDS
            or user.has_group("base.group_system")
            or not user.has_group("llm.group_llm_manager")
        )
