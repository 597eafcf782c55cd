from odoo.exceptions import AccessError

from odoo.addons.llm_generate_job.tests.rights import ROLES, RightsMatrix

from .common import LlmFalAiCommon


class TestRightsMatrix(RightsMatrix, LlmFalAiCommon):
    addon = "llm_fal_ai"

    def test_nobody_runs_a_job_past_the_queue(self):
        job = self._create_job("queued")
        methods = ("create_generation_job", "check_generation_job_status", "cancel_generation_job")
        for role in ROLES:
            for what in methods:
                method = f"fal_ai_{what}"
                result = self._rpc(role, "llm.provider", method, job.provider_id.ids, job.id)
                with self.subTest(role=role, method=method):
                    self.assertIsInstance(result, AccessError)

    def test_who_may_not_read_a_provider_does_not_use_it_nor_read_it_then(self):
        job = self._create_job("queued", model=self.model)
        self.provider.company_id = self.env["res.company"].create({"name": "Of another"})
        provider = self.provider.with_user(self.manager)
        uses = {
            "create": lambda: provider.create_generation_job(job),
            "check": lambda: provider.check_generation_job_status(job),
            "client": provider._fal_ai_client,
        }
        for name, use in uses.items():
            self.env.flush_all()
            self.env.invalidate_all()
            with self.subTest(use=name):
                with self.assertRaises(AccessError):
                    use()
                with self.assertRaises(AccessError):
                    provider.api_base  # noqa: B018 reading is the test
                self.assertFalse(self.remote.requests)
