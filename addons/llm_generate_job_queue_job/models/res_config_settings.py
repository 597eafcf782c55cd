from odoo import fields, models

from .llm_generation_delegation import PARAMETER


class ResConfigSettings(models.TransientModel):
    """Where claimed jobs are executed."""

    _inherit = "res.config.settings"

    llm_generation_executor = fields.Selection(
        [("queue_job", "Workers of queue_job"), ("threads", "Threads of the Odoo servers")],
        "Generations Run In",
        config_parameter=PARAMETER,
        default="queue_job",
        groups="base.group_system",
    )
