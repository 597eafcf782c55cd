from odoo.tests import HttpCase, tagged

from .common import TOUR_TIMEOUT, LlmGenerationCommon


@tagged("post_install", "-at_install")
class TestAnalysisTours(LlmGenerationCommon, HttpCase):
    def test_a_manager_compares_providers_and_finds_a_failed_job(self):
        self._create_job("completed").sudo().write({"duration": 75, "prompt_tokens": 42})
        self._create_job("failed").sudo().error_type = "timeout"

        self.start_tour(
            "/odoo/llm-generation-jobs",
            "llm_generation_analysis_tour",
            login=self.manager.login,
            timeout=TOUR_TIMEOUT,
        )

    def test_a_user_analyses_their_own_jobs(self):
        self._create_job("completed")
        self._create_job("completed", self.direct_model, user=self.manager)

        self.start_tour(
            "/odoo/llm-analysis",
            "llm_generation_analysis_user_tour",
            login=self.user.login,
            timeout=TOUR_TIMEOUT,
        )
