"""What executes jobs is chosen for each queue: until now it was one thing for all of them."""

from odoo import SUPERUSER_ID, api

PARAMETER = "llm_generate_job.executor"


def migrate(cr, version):
    """Have the jobs of all queues run where they did; of the next ones, too."""
    env = api.Environment(cr, SUPERUSER_ID, {})
    parameters = env["ir.config_parameter"]
    if parameters.get_param(PARAMETER) == "threads":
        parameters.set_param(PARAMETER, "runner")
    else:
        parameters.set_param(PARAMETER, "queue_job")
    chosen = parameters.get_param(PARAMETER)
    env["llm.generation.queue"].with_context(active_test=False).search([]).executor = chosen
