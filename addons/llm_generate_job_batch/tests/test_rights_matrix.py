from pathlib import Path
from unittest.mock import patch

from odoo.addons.llm_generate_job.tests import test_rights_matrix as matrix

ADDON = "llm_generate_job_batch"


class TestRightsMatrix(matrix.TestRightsMatrix):
    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        table = Path(__file__).parents[1] / "security" / "RIGHTS.md"
        cls.startClassPatcher(patch.object(matrix, "TABLE", table))
        cls.startClassPatcher(patch.object(matrix, "OURS", f"odoo.addons.{ADDON}."))

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
        values = {"name": "G", "user_id": self.user.id, "company_id": self.env.company.id}
        return self.env[name].create(values), values, {"name": "H"}

    def _call_of(self, method):
        state = "failed" if method.endswith("retry_failed") else "queued"
        job = self._create_job(state)
        job.batch_id = self.env["llm.generation.batch"].create({
            "name": "G",
            "user_id": self.user.id,
            "company_id": job.company_id.id,
        })
        return job.batch_id, ()

    def test_each_model_has_a_line(self):
        models = [self.env[name] for name in self.env.registry]
        ours = {model._name for model in models if model._original_module == ADDON}
        stored = {name for name in ours if not self.env[name]._abstract}
        self.assertEqual(matrix.read_table("Records").keys(), stored | {"ir.actions.server"})
