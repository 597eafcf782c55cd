from odoo.addons.llm_generate_job.tests.common import LlmGenerationCommon
from odoo.addons.llm_generate_job.tests.rights import RightsMatrix


class TestRightsMatrix(RightsMatrix, LlmGenerationCommon):
    addon = "llm_generate_job_budget"

    def _sample(self, name):
        daily = {"llm_daily_jobs": 3}
        match name:
            case "llm.generation.spending":
                values = {"job_id": 7, "day": "2026-01-01", "jobs": 1, "tokens": 2, "attempts": 0}
                values |= {"user_id": self.user.id, "xid": "1"}
                return self.env[name].create(values), values, {"tokens": 0}
            case "res.company":
                return self.env.company, {"name": "C", **daily}, daily
            case "res.users":
                return self.user, {"name": "U", "login": "matrix_new", **daily}, daily
            case "res.config.settings":
                return self.env[name].create({}), daily, daily
        raise KeyError(name)
