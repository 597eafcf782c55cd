from odoo import models


class IrHttp(models.AbstractModel):
    """Tells the web client what its user prefers."""

    _inherit = "ir.http"

    def session_info(self):
        info = super().session_info()
        if self.env.user._is_internal():
            info["llm_generation_notify"] = self.env.user.llm_generation_notify
        return info
