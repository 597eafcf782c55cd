import requests

from odoo import api, models

from odoo.addons.bench.models.bench import work

TIMEOUT = 30


class LlmProvider(models.Model):
    _inherit = "llm.provider"

    @api.model
    def _get_available_services(self):
        return [*super()._get_available_services(), ("bench", "Benchmark")]

    def bench_create_generation_job(self, job):
        """Answer in this process, or over HTTP where the provider has an address."""
        inputs = job.generation_inputs
        if not self.api_base:
            work(inputs["key"], inputs["seconds"])
            return {"state": "completed"}
        answer = requests.post(self.api_base, json=inputs, timeout=TIMEOUT)
        answer.raise_for_status()
        return {"state": "completed", "usage": answer.json()["usage"]}
