from odoo.exceptions import AccessError
from odoo.tests import HttpCase, new_test_user, tagged

from ..models.res_config_settings import TOKEN_PARAMETER
from .common import read_metrics

PATH = "/llm_generate_job/metrics"


@tagged("post_install", "-at_install")
class TestMetricsController(HttpCase):
    def _get(self, token=None):
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        return self.url_open(PATH, headers=headers)

    def test_without_a_token_in_the_settings_there_are_no_metrics(self):
        self.env["ir.config_parameter"].set_param(TOKEN_PARAMETER, False)
        for token in (None, "False", ""):
            self.assertEqual(self._get(token).status_code, 404)

    def test_only_who_has_the_token_may_read(self):
        self.env["ir.config_parameter"].set_param(TOKEN_PARAMETER, "s3cret")
        for token in (None, "s3cre", "s3cret1", "S3CRET", "schl\xfcssel"):
            response = self._get(token)
            self.assertEqual(response.status_code, 401, token)
            self.assertNotIn("llm_generation", response.text)

    def test_prometheus_can_read_the_answer(self):
        self.env["ir.config_parameter"].set_param(TOKEN_PARAMETER, "s3cret")
        response = self._get("s3cret")
        self.assertEqual(response.status_code, 200)
        self.assertTrue(response.headers["Content-Type"].startswith("text/plain"))
        self.assertIn("llm_generation_jobs", response.text)
        read_metrics(response.text)

    def test_the_settings_make_a_token_that_nobody_guesses(self):
        settings = self.env["res.config.settings"].create({})
        tokens = set()
        for _turn in range(2):
            settings.action_make_metrics_token()
            tokens.add(self.env["ir.config_parameter"].get_param(TOKEN_PARAMETER))
        self.assertEqual(len(tokens), 2)
        self.assertGreaterEqual(min(map(len, tokens)), 40)

    def test_saved_settings_leave_no_token_that_anybody_knows(self):
        self.env["ir.config_parameter"].set_param(TOKEN_PARAMETER, False)
        self.env["res.config.settings"].create({}).execute()
        self.assertFalse(self.env["ir.config_parameter"].get_param(TOKEN_PARAMETER))
        self.assertEqual(self._get("0").status_code, 404)

    def test_a_manager_of_generations_makes_no_token(self):
        manager = new_test_user(self.env, "metrics_manager", "llm.group_llm_manager")
        settings = self.env["res.config.settings"].with_user(manager)
        with self.assertRaises(AccessError):
            settings.create({}).action_make_metrics_token()
