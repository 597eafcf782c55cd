from odoo.tests import HttpCase, tagged

from ..exceptions import AuthenticationError
from .common import TOUR_TIMEOUT, LlmGenerationCommon, posted

#: What the service says to a wrong address.
WRONG = "No such key"


@tagged("post_install", "-at_install")
class TestDashboardTours(LlmGenerationCommon, HttpCase):
    """The dashboard in the browser. Jobs run inline, in the request that follows."""

    def _tour(self, name, user, path="/odoo/llm-dashboard"):
        self.start_tour(path, name, login=user.login, timeout=TOUR_TIMEOUT)

    def _begin_anew(self):
        """Have nothing that was set up or asked, and one service."""
        self.env["llm.generation.job"].search([]).unlink()
        self.env["llm.thread"].with_context(active_test=False).search([]).unlink()
        self.env["llm.model"].search([]).active = False
        self.env["llm.provider"].search([]).active = False

        def list_models(provider, model_id=None):
            if provider.api_base == "https://wrong.example":
                raise AuthenticationError(WRONG)
            return [{"name": "tiny", "details": {}}]

        services = self._offered(
            _get_available_services=lambda _provider: [("fakedirect", "Direct")],
            fakedirect_models=list_models,
        )
        self.enterContext(services)

    def test_a_new_administrator_gets_to_the_first_answer(self):
        self._needs_our_page()
        self._begin_anew()

        self._tour("llm_generation_first_run_tour", self.manager, "/odoo")

        job = self.env["llm.generation.job"].search([])
        self.assertRecordValues(job, [{"state": "completed", "user_id": self.manager.id}])
        self.assertEqual(job.provider_id.api_base, "https://llm.example/v1")

    def test_a_mistake_is_told_and_corrected_where_it_was_made(self):
        self._begin_anew()
        provider, model = self._create_provider("Fresh", "fakedirect")
        model.unlink()
        provider.api_base = "https://wrong.example"

        path = "/odoo/llm-first-steps"
        self._tour("llm_generation_first_steps_mistake_tour", self.manager, path)

        self.assertEqual(provider.model_ids.mapped("name"), ["tiny"])

    def test_the_page_of_steps_that_are_done_leads_on(self):
        self._needs_our_page()
        self._create_thread(user=self.manager, name="Asked before")
        path = "/odoo/llm-first-steps"
        self._tour("llm_generation_first_steps_done_tour", self.manager, path)

    def test_a_user_is_told_whom_to_ask(self):
        self._begin_anew()
        others = self.env.ref("llm.group_llm_manager").all_user_ids - self.manager
        others.write({"active": False})
        self._tour("llm_generation_first_steps_user_tour", self.user, "/odoo")

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
