import itertools

from odoo.addons.llm_generate_job.tests.common import LlmGenerationCommon
from odoo.addons.llm_generate_job.tests.fake_http import FakeHttpService, json_reply

API_KEY = "canary-key-acme-0123456789"
#: States of the contract in the words of the provider.
STATUS_OF = {"queued": "waiting", "completed": "done"}


class FakeAcme(FakeHttpService):
    """The provider's side: write here what its documentation says, not what the addon expects."""

    text = "A quiet island"

    def reset(self):
        self.requests, self.faults = [], []
        self.state = "running"
        self.submitted = self.cancelled = 0
        self.numbers = itertools.count(1)
        self.known = set()

    def answer(self, request):
        if request.headers.get("authorization") != f"Bearer {API_KEY}":
            return json_reply({"error": "No such key."}, 401)
        if request.method == "POST":
            return self._submit()
        external_id = request.path.rpartition("/")[2]
        if external_id not in self.known:
            return json_reply({"error": "No such job."}, 404)
        if request.method == "DELETE":
            return self._stop()
        return self._status(external_id)

    def _submit(self):
        self.submitted += 1
        external_id = f"job-{next(self.numbers)}"
        self.known.add(external_id)
        return json_reply({"id": external_id})

    def _status(self, external_id):
        reply = {"id": external_id, "status": STATUS_OF.get(self.state, self.state)}
        if self.state == "running":
            reply["percent"] = 40
        if self.state == "failed":
            reply["error"] = "It broke."
        if self.state == "completed":
            reply["text"] = self.text
            reply["usage"] = {"prompt_tokens": 5, "completion_tokens": 3}
        return json_reply(reply)

    def _stop(self):
        stopped = self.state in {"queued", "running"}
        if stopped:
            self.cancelled += 1
            self.state = "cancelled"
        return json_reply({"stopped": stopped})


class LlmAcmeCommon(LlmGenerationCommon):
    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.remote = FakeAcme()
        cls.addClassCleanup(cls.remote.close)
        cls.provider, cls.model = cls._create_provider("Acme", "acme")
        cls.provider.write({"api_base": cls.remote.url, "api_key": API_KEY})

    def setUp(self):
        super().setUp()
        self.remote.reset()
