from odoo.addons.llm_generate_job.tests.common import LlmGenerationCommon
from odoo.addons.llm_generate_job.tests.rights import RightsMatrix


class TestRightsMatrix(RightsMatrix, LlmGenerationCommon):
    addon = "llm_anthropic_batch"
