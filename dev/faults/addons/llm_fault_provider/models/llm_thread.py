import os

from odoo import models

#: Only where a script asks for it: what has such a hook calls it for each job that ends.
if os.environ.get("LLM_FAULT_TOUCHES"):

    class LlmThread(models.Model):
        _inherit = "llm.thread"

        def _on_generation_job_done(self, job):
            """Write on the partner that `touches` of the inputs names, as a server action may."""
            result = super()._on_generation_job_done(job)
            if partner_id := (job.generation_inputs or {}).get("touches"):
                partner = self.env["res.partner"].browse(partner_id)
                partner.comment = f"{partner.comment or ''} {job.id}"
                self.env.flush_all()
            return result
