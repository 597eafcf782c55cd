from odoo.addons.llm.tests.rights import RightsMatrix

from .common import LlmAcmeCommon


class TestRightsMatrix(RightsMatrix, LlmAcmeCommon):
    addon = "llm_acme"
