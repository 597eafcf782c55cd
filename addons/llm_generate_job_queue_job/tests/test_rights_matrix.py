from odoo.addons.llm_generate_job.tests.common import LlmGenerationCommon
from odoo.addons.llm_generate_job.tests.rights import RightsMatrix


class TestRightsMatrix(RightsMatrix, LlmGenerationCommon):
    addon = "llm_generate_job_queue_job"

    def _sample(self, name):
        record = self.env[name]
        if name == "res.config.settings":
            return record.create({}), {}, {}
        if name == "queue.job":
            job = self.env["res.partner"].with_delay().name_search()
            return job.db_record(), {"uuid": "x"}, {"priority": 3}
        raise KeyError(name)
