import json
import time

from hypothesis import example, given, settings
from hypothesis import strategies as st

from odoo import fields
from odoo.tests import HttpCase
from odoo.tools import mute_logger

from ..const import WEBHOOK_PATH
from . import fuzzing
from .common import LlmGenerationCommon
from .signatures import new_secret, sign_standard

SETTINGS = settings(fuzzing.SETTINGS, max_examples=400)
MODEL_LOG = "odoo.addons.llm_generate_job.engine.webhook"
DEEP = b"[" * 100_000

payloads = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.sampled_from(["ext-1", "x", "\x00"]),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(["id", "data", "type", "status"]), inner, max_size=3)
    ),
    max_leaves=6,
)
bodies = st.binary(max_size=60) | payloads.map(lambda one: json.dumps(one).encode())
words = st.text(st.characters(min_codepoint=32, max_codepoint=255), max_size=30).map(str.strip)
stamps = words | st.integers(-(10**20), 10**20).map(str) | st.just("now")
signatures = words | st.sampled_from(["v1,", "v1,AAAA", "v1, v1,x", "v2,é", "v1," + "A" * 44])
headers = st.fixed_dictionaries(
    {},
    optional={
        "webhook-id": words,
        "webhook-timestamp": stamps,
        "webhook-signature": signatures,
        "content-type": st.sampled_from([
            "application/json",
            "text/plain",
            "x",
            "multipart/form-data",
        ]),
    },
)


class TestFuzzWebhook(LlmGenerationCommon, HttpCase):
    """Whatever is sent: no error of the server, and no change without a valid signature."""

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.secret = new_secret()
        cls.queue.webhook_secret = cls.secret

    def setUp(self):
        super().setUp()
        self.job = self._create_job("queued")
        self._process_queue()
        self.job.next_poll_at = fields.Datetime.add(fields.Datetime.now(), hours=1)
        self.assertEqual(self.job.external_job_id, "ext-1")

    def _receive(self, job_id, token, given_headers, body):
        if given_headers.get("webhook-timestamp") == "now":
            given_headers = {**given_headers, "webhook-timestamp": str(int(time.time()))}
        return self._engine()._receive(job_id, token, given_headers, body)

    @SETTINGS
    @given(headers, bodies, st.text(max_size=50), st.integers(-1, 10**30), st.booleans())
    @example({}, DEEP, "", 0, True)
    @mute_logger(MODEL_LOG)
    def test_nothing_unsigned_changes_a_job(self, given_headers, body, token, job_id, knows):
        before = self._values(self.job)
        if knows:
            token, job_id = self.job.webhook_token, self.job.id
        status = self._receive(job_id, token, given_headers, body)
        self.assertEqual(status, 401 if knows else 404)
        self.assertEqual(self._values(self.job), before)

    @SETTINGS
    @given(bodies, st.uuids().map(str))
    @example(DEEP, "msg_deep")
    @example(b'{"id": "ext-1"}', "msg_right")
    @mute_logger(MODEL_LOG)
    def test_what_is_signed_is_a_hint_about_its_own_job_at_most(self, body, message_id):
        names = ["state", "provider_data", "external_job_id", "output_message_id", "attempt_token"]
        before, whole = self._values(self.job, names), self._values(self.job)
        given_headers = sign_standard(self.secret, body, message_id=message_id)
        status = self._receive(self.job.id, self.job.webhook_token, given_headers, body)
        self.assertIn(status, {200, 401})
        self.assertEqual(self._values(self.job, names), before)
        if status != 200:
            self.assertEqual(self._values(self.job), whole)

    @settings(SETTINGS, max_examples=60)
    @given(headers, bodies, st.booleans(), st.sampled_from(["", "x", "%00", "é", "%ff", "a/b"]))
    @example({}, DEEP, True, "")
    @mute_logger(MODEL_LOG, "odoo.http")
    def test_the_route_never_breaks(self, given_headers, body, knows, token):
        before = self._values(self.job)
        address = f"{WEBHOOK_PATH}/{self.job.id}/{self.job.webhook_token if knows else token}"
        coded = {name: value.encode("latin-1") for name, value in given_headers.items()}
        response = self.url_open(address, data=body or b" ", headers=coded)
        self.assertIn(response.status_code, range(400, 500))
        self.env.invalidate_all()
        self.assertEqual(self._values(self.job), before)
