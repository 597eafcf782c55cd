from unittest.mock import patch

from odoo.addons.llm_generate_job.tests.common import LlmGenerationCommon
from odoo.addons.llm_generate_job.tests.contract import DirectContract, JobContract
from odoo.addons.llm_generate_job.tests.contract_http import BoundsContract, HttpContract

from ..models import llm_provider
from .common import API_KEY, chat_patience, is_bounded
from .fake_openai import FakeOpenAI


class ContractCommon(LlmGenerationCommon):
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
        return chat_patience()


#: What holds for the chat of the `llm_openai` that is there.
CHAT_CONTRACTS = (BoundsContract, HttpContract) if is_bounded() else (HttpContract,)


class TestChatContract(*CHAT_CONTRACTS, DirectContract, ContractCommon):
    def test_usage_is_noted(self):
        job = self._ask()

        self.assertGreater(min(job.prompt_tokens, job.completion_tokens), 0)
        if is_bounded():
            self.assertEqual((job.prompt_tokens, job.completion_tokens), (7, 2))


class TestBackgroundContract(BoundsContract, HttpContract, JobContract, ContractCommon):
    use_background_jobs = True

    def patience(self):
        return patch.object(llm_provider, "READ_TIMEOUT", 0.4)

    def test_usage_is_noted(self):
        job = self._finish(self._ask())

        self.assertEqual((job.prompt_tokens, job.completion_tokens), (11, 3))
