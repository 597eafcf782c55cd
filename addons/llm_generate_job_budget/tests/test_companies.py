from odoo.addons.llm_generate_job.tests.test_companies import CompaniesCommon


class TestCompanies(CompaniesCommon):
    def test_a_refusal_names_no_manager_of_another_company(self):
        whom = self.env["llm.generation.engine"].with_user(self.second_user)._whom_to_ask()
        self.assertIn(self.second_manager.name, whom)
        self.assertNotIn(self.manager.name, whom)

    def test_what_is_left_is_told_to_oneself_and_to_managers(self):
        self.first.llm_user_daily_jobs = 7
        job = self._create_job(thread_id=self.first_thread.id, user=self.user)
        values = {"user_id": self.user.id, "company_id": self.first.id, "state": "draft"}
        for user, told in (
            (self.user, True),
            (self.manager, True),
            (self.other, False),
            (self.second_manager, False),
        ):
            with self.subTest(user=user.login):
                left = self.env(user=user.id, su=False)["llm.generation.job"].new(values)
                self.assertEqual(bool(left.budget_left), told)
        form = self._rpc(
            self.other,
            job.browse(),
            "onchange",
            {**values, "provider_id": self.native.id, "model_id": self.native_model.id},
            ["user_id"],
            {"budget_left": {}},
        )
        self.assertFalse(form["value"].get("budget_left"))
