from unittest.mock import patch

from odoo.addons.llm_generate_job.tests.common import LlmGenerationCommon
from odoo.addons.llm_generate_job.tests.contract import DirectContract, JobContract
from odoo.addons.llm_generate_job.tests.contract_http import BoundsContract, HttpContract
from odoo.addons.llm_openai import client
from odoo.addons.llm_openai.tests.common import API_KEY

from .fake_openai import FakeOpenAI


class ContractCommon(BoundsContract, HttpContract):
    use_background_jobs = False

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.remote = FakeOpenAI()
        cls.addClassCleanup(cls.remote.close)
        cls.provider, cls.model = cls._create_provider("Fake", "openai")
        cls.provider.write({
            "api_base": f"{cls.remote.url}/v1",
            "api_key": API_KEY,
            "use_background_jobs": cls.use_background_jobs,
        })

    def patience(self):
        return patch.object(client, "READ_TIMEOUT", 0.4)


class TestChatContract(ContractCommon, DirectContract, LlmGenerationCommon):
    def test_usage_is_noted(self):
        job = self._ask()

        self.assertEqual((job.prompt_tokens, job.completion_tokens), (7, 2))


class TestBackgroundContract(ContractCommon, JobContract, LlmGenerationCommon):
    use_background_jobs = True

    def test_usage_is_noted(self):
        job = self._finish(self._ask())

        self.assertEqual((job.prompt_tokens, job.completion_tokens), (11, 3))
