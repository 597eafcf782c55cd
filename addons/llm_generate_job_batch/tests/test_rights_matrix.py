import uuid

from odoo.addons.llm_generate_job.tests.common import LlmGenerationCommon
from odoo.addons.llm_generate_job.tests.rights import RightsMatrix


class TestRightsMatrix(RightsMatrix, LlmGenerationCommon):
    addon = "llm_generate_job_batch"

    def _sample(self, name):
        if name == "ir.actions.server":
            values = {
                "name": "A",
                "state": "llm_generate",
                "llm_model_id": self.native_model.id,
                "llm_prompt": "Hello",
                "model_id": self.env["ir.model"]._get_id("res.partner"),
            }
            return self.env[name].create(values), values, {"name": "B"}
        if name == "llm.generation.batch":
            values = {"name": "G", "user_id": self.user.id, "company_id": self.env.company.id}
            return self.env[name].create(values), values, {"name": "H"}
        if name == "llm.generation.provider.batch":
            batch = self._provider_batch()
            values = {"provider_id": batch.provider_id.id, "model_id": batch.model_id.id}
            return batch, values, {"error_message": "H"}
        raise KeyError(name)

    def _provider_batch(self):
        """Return a batch of a provider of the managers' company."""
        values = {"name": uuid.uuid4().hex, "company_id": self.env.company.id}
        provider = self.native.copy(values)
        model = self.native_model.copy({"provider_id": provider.id})
        return self.env["llm.generation.provider.batch"].create({
            "provider_id": provider.id,
            "model_id": model.id,
        })

    def _call_of(self, method):
        if method.startswith("llm.generation.provider.batch"):
            return self._provider_batch(), ()
        state = "failed" if method.endswith("retry_failed") else "queued"
        job = self._create_job(state)
        job.batch_id = self.env["llm.generation.batch"].create({
            "name": "G",
            "user_id": self.user.id,
            "company_id": job.company_id.id,
        })
        return job.batch_id, ()
