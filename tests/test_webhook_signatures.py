import base64
import json

from odoo.tests import BaseCase, tagged

from ..protocol.signatures import WebhookRefusedError, read_jwks, verify_fal, verify_standard
from .signatures import FalSigner, new_secret, sign_standard

NOW = 1_700_000_000
BODY = json.dumps({"id": "ext-1", "status": "succeeded"}).encode()


@tagged("post_install", "-at_install")
class TestWebhookSignatures(BaseCase):
    def test_the_example_of_the_specification_is_accepted(self):
        # The vector that the libraries of the specification are tested with.
        headers = {
            "webhook-id": "msg_p5jXN8AQM9LWM0D4loKWxJek",
            "webhook-timestamp": "1614265330",
            "webhook-signature": "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=",
        }
        secret = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"

        # Its body names no job, which is looked at after the signature.
        with self.assertRaisesRegex(WebhookRefusedError, "names no job"):
            verify_standard(headers, b'{"test": 2432232314}', secret, now=1614265330)

    def test_a_standard_webhook_names_its_job(self):
        secret = new_secret()
        openai = b'{"id": "evt_1", "type": "response.completed", "data": {"id": "ext-1"}}'
        for body in (BODY, openai):
            delivery = verify_standard(
                sign_standard(secret, body, timestamp=NOW), body, secret, NOW
            )

            self.assertEqual(delivery.external_id, "ext-1")

    def test_one_of_several_signatures_is_enough(self):
        secret = new_secret()
        headers = sign_standard(secret, BODY, timestamp=NOW)
        headers["webhook-signature"] = f"v1,AAAA v1a,BBBB {headers['webhook-signature']}"

        self.assertEqual(verify_standard(headers, BODY, secret, NOW).external_id, "ext-1")

    def test_a_standard_webhook_is_refused_for_anything_wrong(self):
        secret = new_secret()
        right = sign_standard(secret, BODY, timestamp=NOW)
        cases = {
            "no secret": (right, BODY, "", NOW),
            "other secret": (right, BODY, new_secret(), NOW),
            "secret no base64": (right, BODY, "whsec_*", NOW),
            "empty key": (right, BODY, "whsec_", NOW),
            "changed body": (right, BODY + b" ", secret, NOW),
            "changed id": ({**right, "webhook-id": "msg_2"}, BODY, secret, NOW),
            "changed time": ({**right, "webhook-timestamp": str(NOW + 1)}, BODY, secret, NOW),
            "time no number": ({**right, "webhook-timestamp": "soon"}, BODY, secret, NOW),
            "too old": (right, BODY, secret, NOW + 301),
            "from the future": (right, BODY, secret, NOW - 301),
            "other version": ({**right, "webhook-signature": "v2,AAAA"}, BODY, secret, NOW),
            "not ASCII": ({**right, "webhook-signature": "v1,é"}, BODY, secret, NOW),
            **{
                f"no {name}": ({**right, name: ""}, BODY, secret, NOW)
                for name in ("webhook-id", "webhook-timestamp", "webhook-signature")
            },
        }
        for name, (headers, body, key, now) in cases.items():
            with self.subTest(name), self.assertRaises(WebhookRefusedError):
                verify_standard(headers, body, key, now)
        self.assertTrue(verify_standard(right, BODY, secret, NOW + 300))

    def test_a_webhook_that_names_no_job_is_refused(self):
        secret = new_secret()
        for body in (b"", b"[]", b"{}", b'{"id": 5}', b"\xff"):
            with self.subTest(body), self.assertRaises(WebhookRefusedError):
                verify_standard(sign_standard(secret, body, timestamp=NOW), body, secret, NOW)

    def test_fal_is_verified_by_any_of_its_keys(self):
        signer, other = FalSigner(), FalSigner()
        headers = signer.sign(BODY, "req-1", timestamp=NOW)

        delivery = verify_fal(headers, BODY, [other.public_key, signer.public_key], NOW)

        self.assertEqual(delivery.external_id, "req-1")

    def test_fal_is_refused_for_anything_wrong(self):
        signer = FalSigner()
        right = signer.sign(BODY, "req-1", timestamp=NOW)
        keys = [signer.public_key]
        cases = {
            "no keys": (right, BODY, [], NOW),
            "other key": (right, BODY, [FalSigner().public_key], NOW),
            "broken key": (right, BODY, [b"short"], NOW),
            "changed body": (right, BODY + b" ", keys, NOW),
            "too old": (right, BODY, keys, NOW + 301),
            "from the future": (right, BODY, keys, NOW - 301),
            "no hex": ({**right, "x-fal-webhook-signature": "zz"}, BODY, keys, NOW),
            **{
                f"changed {name}": (
                    {**right, f"x-fal-webhook-{name}": "1700000001"},
                    BODY,
                    keys,
                    NOW,
                )
                for name in ("request-id", "user-id", "timestamp")
            },
            **{f"no {name}": ({**right, name: ""}, BODY, keys, NOW) for name in right},
        }
        for name, (headers, body, given, now) in cases.items():
            with self.subTest(name), self.assertRaises(WebhookRefusedError):
                verify_fal(headers, body, given, now)

    def test_a_key_set_is_read_whatever_else_it_has(self):
        signer = FalSigner()
        keys = [{"kty": "RSA", "n": "AQAB"}, "text", None, *signer.jwks["keys"]]
        keys += [{"crv": "Ed25519", "x": x} for x in ("é", "a", 7)]

        self.assertEqual(read_jwks({"keys": keys}), [signer.public_key])
        self.assertEqual(read_jwks([]), [])
        self.assertEqual(read_jwks({"keys": 7}), [])
        self.assertEqual(len(base64.urlsafe_b64decode(signer.jwks["keys"][0]["x"] + "=")), 32)

    def test_a_signed_body_without_an_end_names_no_job(self):
        body, secret = b"[" * 100_000, new_secret()
        headers = sign_standard(secret, body)
        with self.assertRaisesRegex(WebhookRefusedError, "names no job"):
            verify_standard(headers, body, secret)
