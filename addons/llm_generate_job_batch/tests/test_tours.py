from odoo.tests import HttpCase, tagged

from odoo.addons.llm_generate_job.tests.common import TOUR_TIMEOUT, LlmGenerationCommon


@tagged("post_install", "-at_install")
class TestTours(LlmGenerationCommon, HttpCase):
    def test_a_batch_shows_how_far_it_is_and_is_given_up(self):
        job = self.env["llm.generation.job"].with_user(self.user)
        batch = job.create_batch(["a", "b"], model=self.native_model, name="Letters")

        self.start_tour(
            "/odoo/llm-generation-batches",
            "llm_generation_batch_tour",
            login=self.user.login,
            timeout=TOUR_TIMEOUT,
        )

        self.assertEqual(set(batch.job_ids.mapped("state")), {"cancelled"})
