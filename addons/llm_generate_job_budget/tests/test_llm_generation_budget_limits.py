from psycopg2.errors import CheckViolation

from odoo.exceptions import AccessError, UserError
from odoo.tests import new_test_user
from odoo.tools import mute_logger

from odoo.addons.llm_generate_job.tests.common import LlmGenerationCommon


class TestLlmGenerationBudgetLimits(LlmGenerationCommon):
    """Whose budget is what, who says so and who sees it."""

    def setUp(self):
        super().setUp()
        self.company = self.user.company_id
        self.addCleanup(self.env.registry.clear_cache)

    def test_a_user_may_have_a_budget_of_their_own(self):
        self.company.llm_user_daily_jobs = 1
        self.user.write({"llm_own_budget": True, "llm_daily_jobs": 2})
        for _job in range(2):
            self._create_job("queued")
        self._refusal(self._create_job().action_queue)
        self._create_job("queued", user=self.manager)
        self._refusal(self._create_job(user=self.manager).action_queue)
        self.user.llm_daily_jobs = 0
        self._create_job("queued")

    def test_a_company_has_one_for_all_its_users(self):
        self.company.llm_daily_jobs = 2
        self._create_job("queued")
        self._create_job("queued", user=self.manager)
        self.assertIn(self.company.name, self._refusal(self._create_job().action_queue))

        elsewhere = self.env["res.company"].create({"name": "Elsewhere"})
        stranger = new_test_user(
            self.env,
            "generation_stranger",
            "base.group_user",
            company_id=elsewhere.id,
            company_ids=[(6, 0, elsewhere.ids)],
        )
        provider, model = self._create_provider("Elsewhere", "fakenative")
        provider.company_id = elsewhere
        self._create_job("queued", model=model, user=stranger)

    def test_what_no_day_allows_for_is_told(self):
        self.company.llm_user_daily_tokens = 10
        self.assertIn("more than a whole day", self._refusal(self._create_job().action_queue))

    def test_users_read_and_change_no_budgets(self):
        for record in (self.user, self.manager, self.company):
            mine = record.with_user(self.user)
            with self.subTest(record.name), self.assertRaises(AccessError):
                mine.read(["llm_daily_jobs"])
            with self.subTest(record.name), self.assertRaises(AccessError):
                mine.write({"llm_daily_jobs": 0})
        spending = self.env["llm.generation.spending"].with_user(self.user)
        for operation in ("read", "write", "create", "unlink"):
            with self.subTest(operation):
                self.assertFalse(spending.has_access(operation))

    @mute_logger("odoo.sql_db")
    def test_budgets_are_not_negative(self):
        for record in (self.user, self.company):
            with self.subTest(record._name), self.assertRaises(CheckViolation):
                record.llm_daily_jobs = -1
                self.env.flush_all()

    def test_a_user_sees_what_is_left_where_a_refusal_would_come(self):
        job = self._create_job()
        self.assertFalse(job.with_user(self.user).budget_left)
        self.company.write({"llm_user_daily_jobs": 3, "llm_daily_jobs": 2})
        self._create_job("queued")
        job.invalidate_recordset()
        self.assertEqual(job.with_user(self.user).budget_left, "Left of today's budget: 1 jobs.")
        self.company.llm_user_daily_tokens = 10**6
        job.invalidate_recordset()
        self.assertRegex(job.with_user(self.user).budget_left, r"1 jobs, 9\d+ tokens")

    def test_managers_see_who_spends_what(self):
        settings = self.env["res.config.settings"].create({"llm_daily_jobs": 5})
        settings.execute()
        self.assertEqual(self.company.llm_daily_jobs, 5)
        self._create_job("queued")
        shown = self.env["res.config.settings"].create({}).llm_spent_today
        self.assertRegex(shown, r"^1 of 5 jobs, \d+ of ∞ tokens$")
        user = self.user.with_user(self.manager)
        self.assertRegex(user.llm_spent_today, r"^1 of ∞ jobs, \d+ of ∞ tokens$")
        arch = (
            self
            .env["res.users"]
            .with_user(self.manager)
            .get_view(self.env.ref("base.view_users_form").id)["arch"]
        )
        self.assertIn('name="llm_own_budget"', arch)

    def test_a_budget_is_kept_whether_an_answer_is_queued_or_given_directly(self):
        thread = self._create_thread(self.direct_model).with_user(self.user)
        self.company.llm_user_daily_jobs = 1
        self.assertFalse(thread._should_queue_generation())
        self._create_job("queued")
        for use_queue in (True, False, None):
            with self.subTest(use_queue), self.assertRaisesRegex(UserError, "The budget of"):
                list(thread.generate_response("Hello", use_queue=use_queue))

    def test_an_administrator_who_manages_no_llm_saves_settings_and_copies_users(self):
        admin = new_test_user(self.env, "settings_admin", "base.group_system")
        self.user.write({"llm_own_budget": True, "llm_daily_jobs": 2})
        self.env["res.config.settings"].with_user(admin).create({}).execute()
        copied = self.user.with_user(admin).copy({"login": "a_copy"})
        self.assertFalse(copied.sudo().llm_own_budget)
