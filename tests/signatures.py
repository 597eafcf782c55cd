"""Signs webhooks as providers do, for tests."""

import base64
import hashlib
import hmac
import secrets
import time

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey


def new_secret():
    """Return a secret as the Standard Webhooks specification has it."""
    return "whsec_" + base64.b64encode(secrets.token_bytes(24)).decode()


def sign_standard(secret, body, message_id="msg_1", timestamp=None):
    """Return the headers of a webhook by the Standard Webhooks specification."""
    timestamp = str(int(time.time() if timestamp is None else timestamp))
    key = base64.b64decode(secret.removeprefix("whsec_"))
    signature = hmac.digest(key, f"{message_id}.{timestamp}.".encode() + body, "sha256")
    return {
        "webhook-id": message_id,
        "webhook-timestamp": timestamp,
        "webhook-signature": f"v1,{base64.b64encode(signature).decode()}",
    }


class FalSigner:
    """Holds a key as fal does, signs with it and publishes it."""

    def __init__(self):
        self._key = Ed25519PrivateKey.generate()

    @property
    def public_key(self):
        return self._key.public_key().public_bytes_raw()

    @property
    def jwks(self):
        text = base64.urlsafe_b64encode(self.public_key).decode().rstrip("=")
        return {"keys": [{"kty": "OKP", "crv": "Ed25519", "use": "sig", "x": text}]}

    def sign(self, body, request_id, timestamp=None, user_id="user_1"):
        """Return the headers of a webhook."""
        timestamp = str(int(time.time() if timestamp is None else timestamp))
        digest = hashlib.sha256(body).hexdigest()
        message = f"{request_id}\n{user_id}\n{timestamp}\n{digest}".encode()
        return {
            "x-fal-webhook-request-id": request_id,
            "x-fal-webhook-user-id": user_id,
            "x-fal-webhook-timestamp": timestamp,
            "x-fal-webhook-signature": self._key.sign(message).hex(),
        }
