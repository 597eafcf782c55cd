from odoo.tests import HttpCase, tagged

from .common import TOUR_TIMEOUT, LlmGenerationCommon, posted


@tagged("post_install", "-at_install")
class TestDashboardTours(LlmGenerationCommon, HttpCase):
    """The dashboard in the browser. Jobs run inline, in the request that follows."""

    def _tour(self, name, user, path="/odoo/llm-dashboard"):
        self.start_tour(path, name, login=user.login, timeout=TOUR_TIMEOUT)

    def test_a_new_administrator_gets_to_the_first_job(self):
        self._needs_our_page()
        self.env["llm.generation.job"].search([]).unlink()
        self.env["llm.model"].search([]).active = False
        self.env["llm.provider"].search([]).active = False

        self._tour("llm_generation_first_run_tour", self.manager, "/odoo/llm-generation-jobs")

        job = self.env["llm.generation.job"].search([])
        self.assertRecordValues(job, [{"state": "completed", "user_id": self.manager.id}])
        self.assertEqual(job.provider_id.name, "First provider")

    def test_a_job_that_ends_is_shown_by_itself(self):
        self.service.answers["create"] = [posted("Hi", usage=self.service.usage)]
        job = self._create_job("queued")

        self._tour("llm_generation_dashboard_live_tour", self.manager)

        self.assertEqual(job.state, "completed")

    def test_a_manager_pauses_resumes_clears_and_retries(self):
        waiting = self._create_job("queued")
        failed = self._create_job("failed")

        self._tour(
            "llm_generation_dashboard_manager_tour", self.manager, "/odoo/llm-generation-jobs"
        )

        self.assertTrue(self.queue.enabled)
        self.assertEqual(waiting.state, "cancelled")
        self.assertEqual((failed.state, failed.retry_count), ("queued", 0))

    def test_a_user_sees_figures_and_no_button(self):
        self._create_job("queued")

        self._tour("llm_generation_dashboard_user_tour", self.user)
