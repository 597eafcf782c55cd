import json

from .. import exceptions
from .common import LlmGenerationCommon, posted
from .contract import DirectContract, JobContract
from .contract_http import WebhookContract
from .signatures import new_secret, sign_standard

CLASSES = {
    kind.error_type: kind
    for kind in (
        exceptions.RateLimitedError,
        exceptions.OverloadedError,
        exceptions.TransientError,
        exceptions.UnknownOutcomeError,
        exceptions.QuotaExceededError,
        exceptions.AuthenticationError,
        exceptions.BadRequestError,
    )
}


def mishap(meaning, retry_after=None):
    """Return the exception of a meaning."""
    return CLASSES[meaning]("It went wrong.", retry_after=retry_after)


class NativeRemote:
    """The side of `fakenative`, in the words of the contract."""

    text = "Hello"

    def __init__(self, service, secret):
        self.service, self.secret = service, secret
        self.numbers = iter(range(1, 10**6))

    def reset(self):
        self.service.reset()
        self.state = "running"
        self.mishaps = []
        self.submitted = self.cancelled = 0
        self.service.answers = {
            "create": [self._create],
            "check": [self._check],
            "cancel": [self._cancel],
        }

    def refuse(self, meaning, retry_after=None):
        self.mishaps.append(mishap(meaning, retry_after))

    def _fail_if_ordered(self):
        if self.mishaps:
            raise self.mishaps.pop(0)

    def _create(self, _job):
        self._fail_if_ordered()
        self.submitted += 1
        return f"ext-{next(self.numbers)}"

    def _check(self, job):
        self._fail_if_ordered()
        if self.state == "completed":
            return posted(self.text)(job)
        return {"state": self.state, "error_message": "It broke." if self.state == "failed" else ""}

    def _cancel(self, _job):
        self.cancelled += 1
        return True

    def webhook(self, external_id, timestamp=None):
        body = json.dumps({"id": external_id, "status": self.state}).encode()
        return sign_standard(self.secret, body, timestamp=timestamp), body


class DirectRemote:
    """The side of `fakedirect`, in the words of the contract."""

    text = "Hello"

    def __init__(self, service):
        self.service = service

    def reset(self):
        self.service.reset()
        self.mishaps = []
        self.submitted = 0
        self.service.chunks = [self._begin, {"content": "Hel"}, self._go_on, {"content": "lo"}]

    def refuse(self, meaning, retry_after=None):
        self.mishaps.append((self._begin, mishap(meaning, retry_after)))

    def break_off(self):
        self.mishaps.append((self._go_on, mishap("unknown_outcome")))

    def _fail_if_ordered(self, here):
        if self.mishaps and self.mishaps[0][0] == here:
            raise self.mishaps.pop(0)[1]

    def _begin(self):
        self._fail_if_ordered(self._begin)
        self.submitted += 1

    def _go_on(self):
        self._fail_if_ordered(self._go_on)


class TestNativeContract(WebhookContract, JobContract, LlmGenerationCommon):
    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        secret = new_secret()
        cls.provider, cls.model = cls.native, cls.native_model
        cls.queue.webhook_secret = secret
        cls.remote = NativeRemote(cls.service, secret)


class TestDirectContract(DirectContract, LlmGenerationCommon):
    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.provider, cls.model = cls.direct, cls.direct_model
        cls.remote = DirectRemote(cls.service)
