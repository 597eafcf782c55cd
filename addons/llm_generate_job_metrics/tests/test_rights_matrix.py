from odoo.tests import HttpCase, tagged

from odoo.addons.llm_generate_job.tests.common import LlmGenerationCommon
from odoo.addons.llm_generate_job.tests.rights import RightsMatrix, RightsRoutes

from ..models.res_config_settings import TOKEN_PARAMETER


class TestRightsMatrix(RightsMatrix, LlmGenerationCommon):
    addon = "llm_generate_job_metrics"

    def _sample(self, name):
        if name == "llm.generation.tally.mark":
            mark = self.env[name].create({"counted_until": "2026-01-01 00:00:00"})
            values = {"counted_until": "2026-01-02 00:00:00"}
            return mark, values, values
        if name == "llm.generation.tally":
            values = {"provider_id": self.native.id, "series": "s", "label": "l", "value": 1.0}
            return self.env[name].create(values), {**values, "label": "m"}, {"value": 2.0}
        if name == "res.config.settings":
            return self.env[name].create({}), {}, {"llm_generation_metrics_token": "x"}
        raise KeyError(name)

    def _call_of(self, method):
        return self.env["res.config.settings"].create({}), ()


@tagged("post_install", "-at_install")
class TestRightsRoutes(RightsRoutes, LlmGenerationCommon, HttpCase):
    addon = "llm_generate_job_metrics"

    def _request_of(self, route):
        self.env["ir.config_parameter"].set_param(TOKEN_PARAMETER, "canary-token")
        return route, None
