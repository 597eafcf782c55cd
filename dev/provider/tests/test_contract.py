from unittest.mock import patch

from requests.adapters import HTTPAdapter

from odoo.addons.llm_generate_job.tests.contract import JobContract
from odoo.addons.llm_generate_job.tests.contract_http import BoundsContract, HttpContract

from .common import LlmAcmeCommon


class TestContract(BoundsContract, HttpContract, JobContract, LlmAcmeCommon):
    def patience(self):
        send = HTTPAdapter.send

        def impatient(adapter, request, timeout=None, **kwargs):
            # Odoo's tests raise a request's own limit to ten seconds. Where there is none, wait on.
            return send(adapter, request, timeout=0.4 if timeout else None, **kwargs)

        return patch.object(HTTPAdapter, "send", impatient)
