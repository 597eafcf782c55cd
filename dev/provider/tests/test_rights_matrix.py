from odoo.addons.llm_generate_job.tests.rights import RightsMatrix

from .common import LlmAcmeCommon


class TestRightsMatrix(RightsMatrix, LlmAcmeCommon):
    addon = "llm_acme"
