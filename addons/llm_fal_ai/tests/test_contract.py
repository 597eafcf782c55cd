from unittest.mock import patch

from odoo.addons.llm_generate_job.tests.contract import JobContract
from odoo.addons.llm_generate_job.tests.contract_http import (
    BoundsContract,
    HttpContract,
    WebhookContract,
)

from .. import client
from .common import LlmFalAiCommon


class TestContract(WebhookContract, BoundsContract, HttpContract, JobContract, LlmFalAiCommon):
    def patience(self):
        return patch.object(client, "READ_TIMEOUT", 0.4)
