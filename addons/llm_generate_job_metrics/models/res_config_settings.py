import secrets

from odoo import fields, models

TOKEN_PARAMETER = "llm_generate_job.metrics_token"


class ResConfigSettings(models.TransientModel):
    """The token with which monitoring may read the metrics."""

    _inherit = "res.config.settings"

    llm_generation_metrics_token = fields.Char(
        "Metrics Token", config_parameter=TOKEN_PARAMETER, groups="base.group_system"
    )

    def action_make_metrics_token(self):
        """Make a new token; the one before is no longer good."""
        self.check_access("write")
        self.env["ir.config_parameter"].set_param(TOKEN_PARAMETER, secrets.token_urlsafe(32))
        return {"type": "ir.actions.client", "tag": "reload"}
