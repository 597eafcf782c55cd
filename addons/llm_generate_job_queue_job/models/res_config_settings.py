from odoo import fields, models

from .llm_generation_queue import RUNNER


class ResConfigSettings(models.TransientModel):
    """Where the jobs of a queue are executed that is made from now on."""

    _inherit = "res.config.settings"

    llm_generation_executor = fields.Selection(
        [(RUNNER, "Threads of the Odoo servers"), ("queue_job", "Workers of queue_job")],
        "Generations Run In",
        config_parameter="llm_generate_job.executor",
        default=RUNNER,
        groups="base.group_system",
    )
