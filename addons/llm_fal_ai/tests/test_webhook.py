import time
from unittest.mock import patch

from odoo.tools import mute_logger

from odoo.addons.llm_generate_job.tests import fake_http
from odoo.addons.llm_generate_job.tests.contract_http import WEBHOOK_LOG
from odoo.addons.llm_generate_job.tests.signatures import FalSigner

from .. import client, jwks
from .common import LlmFalAiCommon

KEYS = "/.well-known/jwks.json"


class TestWebhook(LlmFalAiCommon):
    def setUp(self):
        super().setUp()
        self.job = self._submitted_job()

    def _send(self, seconds=0):
        headers, body = self.remote.webhook(self.job.external_job_id, time.time() + seconds)
        return self._engine()._receive(self.job.id, self.job.webhook_token, headers, body)

    def test_the_keys_are_fetched_once(self):
        self.assertEqual([self._send(second) for second in range(3)], [200] * 3)

        self.assertEqual(self.remote.count("GET", KEYS), 1)
        self.assertNotIn("authorization", self.remote.requests[-1].headers)

    def test_a_new_key_is_fetched_but_not_for_every_forgery(self):
        self._send()
        self.remote.signer = FalSigner()
        now = time.monotonic()
        with mute_logger(WEBHOOK_LOG):
            self.assertEqual(self._send(1), 401)
        self.assertEqual(self.remote.count("GET", KEYS), 1)

        with patch.object(jwks.time, "monotonic", lambda: now + jwks.PAUSE + 1):
            self.assertEqual(self._send(2), 200)
            self.remote.signer = FalSigner()
            with mute_logger(WEBHOOK_LOG):
                self.assertEqual([self._send(second) for second in (3, 4, 5)], [401] * 3)

        self.assertEqual(self.remote.count("GET", KEYS), 2)

    @mute_logger(WEBHOOK_LOG)
    def test_without_keys_the_answer_is_to_come_again_and_it_comes_soon(self):
        self.startPatcher(patch.object(jwks, "AGAIN", 0))
        for fault in (fake_http.hang, fake_http.garbage, fake_http.error("transient")):
            with self.subTest(fault):
                self.remote.fault(fault)
                start = time.monotonic()

                self.assertEqual(self._send(), 503)

                self.assertLess(time.monotonic() - start, 1)
                self.assertFalse(self.job.poll_requested)
        self.assertEqual(self._send(), 200)

    @mute_logger(WEBHOOK_LOG)
    def test_keys_that_cannot_be_had_are_not_asked_for_by_every_webhook(self):
        self.remote.fault(fake_http.error("transient"))
        self.assertEqual([self._send(second) for second in range(3)], [503] * 3)
        self.assertEqual(self.remote.count("GET", KEYS), 1)
        now = time.monotonic()
        with patch.object(jwks.time, "monotonic", lambda: now + jwks.AGAIN + 1):
            self.assertEqual(self._send(4), 200)
        with patch.object(jwks.time, "monotonic", lambda: now + jwks.LIFETIME + 20):
            self.remote.fault(fake_http.error("transient"))
            self.assertEqual(self._send(5), 200)  # by the keys of yesterday

    def test_fals_own_keys_are_taken_for_fals_own_address(self):
        self.assertEqual(jwks.address_for(client.FalClient(None)), jwks.ADDRESS)
        self.assertEqual(
            jwks.address_for(client.FalClient("https://proxy.example.com:8443/fal")),
            f"https://proxy.example.com:8443{KEYS}",
        )
