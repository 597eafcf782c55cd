import base64
import itertools
import json

from odoo.addons.llm_generate_job.tests.common import LlmGenerationCommon
from odoo.addons.llm_generate_job.tests.fake_http import FakeHttpService, Reply, json_reply
from odoo.addons.llm_generate_job.tests.signatures import FalSigner

from .. import jwks

API_KEY = "0b1c2d3e-aaaa:canary-key-fal0123456789"
PNG = base64.b64decode(
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
)
#: States of the contract in fal's words.
STATUS_OF = {"queued": "IN_QUEUE", "running": "IN_PROGRESS"}


class FakeFal(FakeHttpService):
    """The queue of fal as documented: addresses without the model's path, 202 while pending."""

    text = "A cat"

    def __init__(self):
        self.signer = FalSigner()
        super().__init__()

    def reset(self):
        self.requests, self.faults = [], []
        self.state = "running"
        self.submitted = self.cancelled = 0
        self.numbers = itertools.count(1)
        self.output = {"output": self.text}
        self.files = {"/files/cat.png": Reply(200, PNG, "image/png")}
        self.logs = []
        self.position = 2
        self.failure = {"error": "The runner broke.", "error_type": "some_new_type"}
        self.is_gone = False
        self.refusal = None

    def answer(self, request):
        parts = request.path.strip("/").split("/")
        if request.path == "/.well-known/jwks.json":
            return json_reply(self.signer.jwks)
        if request.path in self.files:
            return self.files[request.path]
        if request.headers.get("authorization") != f"Key {API_KEY}":
            return json_reply({"detail": "Authentication is required."}, 401)
        if request.method == "POST":
            return self._submit(parts)
        if self.is_gone:
            return json_reply({"detail": "Request not found"}, 404)
        return getattr(self, f"_{request.method.lower()}")(parts)

    def _submit(self, parts):
        self.submitted += 1
        request_id = f"req-{next(self.numbers)}"
        base = f"{self.url}/{parts[0]}/{parts[1]}/requests/{request_id}"
        return json_reply({
            "status": "IN_QUEUE",
            "request_id": request_id,
            "response_url": base,
            "status_url": f"{base}/status",
            "cancel_url": f"{base}/cancel",
            "queue_position": self.position,
        })

    def _get(self, parts):
        if parts[-1] != "status":
            return self.refusal or json_reply(self.output)
        status = {"status": STATUS_OF.get(self.state, "COMPLETED"), "request_id": parts[-2]}
        if self.state == "queued":
            status["queue_position"] = self.position
        if self.state == "running":
            status["logs"] = [{"message": message} for message in self.logs]
        if self.state == "failed":
            status |= self.failure
        if self.state == "cancelled":
            status |= {"error": "Request was cancelled.", "error_type": "client_cancelled"}
        return json_reply(status, 202 if self.state in STATUS_OF else 200)

    def _put(self, _parts):
        if self.state in {"completed", "failed", "cancelled"}:
            return json_reply({"status": "ALREADY_COMPLETED"}, 400)
        self.cancelled += 1
        self.state = "cancelled"
        return json_reply({"status": "CANCELLATION_REQUESTED"}, 202)

    def webhook(self, external_id, timestamp=None):
        body = json.dumps({"request_id": external_id, "status": "OK", "payload": {}}).encode()
        return self.signer.sign(body, external_id, timestamp), body


class LlmFalAiCommon(LlmGenerationCommon):
    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.remote = FakeFal()
        cls.addClassCleanup(cls.remote.close)
        cls.provider, cls.model = cls._create_provider("Fal", "fal_ai")
        cls.provider.write({"api_base": cls.remote.url, "api_key": API_KEY})
        cls.model.write({"name": "fal-ai/flux/dev", "model_use": "image_generation"})
        cls.env["ir.config_parameter"].set_param("web.base.url", "https://odoo.example.com")

    def setUp(self):
        super().setUp()
        jwks.forget()
        self.remote.reset()

    def _submitted_job(self, **values):
        job = self._create_job("queued", model=self.model, **values)
        self._process_queue(self.provider)
        return job

    def _completed_job(self, **values):
        job = self._submitted_job(**values)
        self.remote.state = "completed"
        self._engine()._check_due()
        return job
