from odoo.addons.llm_generate_job.tests.test_companies import CompaniesCommon


class TestCompanies(CompaniesCommon):
    def test_a_refusal_names_no_manager_of_another_company(self):
        whom = self.env["llm.generation.engine"].with_user(self.second_user)._whom_to_ask()
        self.assertIn(self.second_manager.name, whom)
        self.assertNotIn(self.manager.name, whom)
