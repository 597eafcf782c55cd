from odoo import api, models

from odoo.addons.llm_generate_job.runner.messages import Lost

METHOD = "_run_claimed"


class QueueJob(models.Model):
    """Tells our runners what people do to the records of our jobs.

    What is written as jobs run is left alone: the housekeeping of the runners sees it.
    """

    _inherit = "queue.job"

    def _change_job_state(self, state, result=None):
        changed = super()._change_job_state(state, result=result)
        self._tell_runners()
        return changed

    @api.ondelete(at_uninstall=False)
    def _tell_runners_ondelete(self):
        self._tell_runners()

    def _tell_runners(self):
        if any(record.method_name == METHOD for record in self):
            self.env["llm.generation.engine"]._wake(Lost())
