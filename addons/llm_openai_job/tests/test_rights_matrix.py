from odoo.exceptions import AccessError

from odoo.addons.llm_generate_job.tests.rights import ROLES, RightsMatrix

from .common import LlmOpenaiJobCommon


class TestRightsMatrix(RightsMatrix, LlmOpenaiJobCommon):
    addon = "llm_openai_job"

    def test_nobody_runs_a_job_past_the_queue(self):
        job = self._create_job("queued")
        for role in ROLES:
            for what in ("create", "cancel"):
                method = f"openai_{what}_generation_job"
                result = self._rpc(role, "llm.provider", method, job.provider_id.ids, job.id)
                with self.subTest(role=role, method=method):
                    self.assertIsInstance(result, AccessError)
