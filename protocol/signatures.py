"""Whether a webhook comes from who it says: pure functions on the body as it was received.

Facts: the Standard Webhooks specification, and the public documentation of fal.
"""

import base64
import contextlib
import hashlib
import hmac
import json
import time
from dataclasses import dataclass

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

#: Seconds by which a webhook's time may differ from ours, as both specifications say.
TOLERANCE = 300

NO_SECRET = "no secret is configured for this provider"
BAD_SECRET = "the configured secret is no base64"
WRONG_SIGNATURE = "the signature is wrong"
WRONG_TIME = "its timestamp is no number"
NOT_FRESH = "it is older or newer than five minutes"
NO_JOB = "it names no job"
OTHER_JOB = "it is about another job"


class WebhookRefusedError(Exception):
    """The webhook is not what it says, or nobody can tell. Its text goes into the log only."""


@dataclass(frozen=True)
class Delivery:
    """A webhook that was proven genuine.

    `external_id` is the provider's id of the job that it is about, None where it does not tell.
    """

    external_id: str | None = None


def verify_standard(headers, body, secret, now=None):
    """Verify a webhook by the Standard Webhooks specification, as OpenAI and Replicate send it.

    :param headers: mapping of lower-case header names
    :param bytes body: as it was received
    :param str secret: base64, with or without the prefix `whsec_`
    :param float now: seconds since the epoch, for tests
    :rtype: Delivery
    :raise WebhookRefusedError: for anything else than a fresh webhook with a valid signature
    """
    if not secret:
        raise WebhookRefusedError(NO_SECRET)
    message_id, timestamp, signatures = (
        _header(headers, f"webhook-{name}") for name in ("id", "timestamp", "signature")
    )
    _check_age(timestamp, now)
    if not (key := key_of_secret(secret)):
        raise WebhookRefusedError(BAD_SECRET)
    signed = f"{message_id}.{timestamp}.".encode() + body
    expected = base64.b64encode(hmac.digest(key, signed, "sha256"))
    given = [text.removeprefix("v1,") for text in signatures.split() if text.startswith("v1,")]
    if not any(hmac.compare_digest(expected, text.encode()) for text in given):
        raise WebhookRefusedError(WRONG_SIGNATURE)
    external_id = _job_of(body)
    if not external_id:
        raise WebhookRefusedError(NO_JOB)
    return Delivery(external_id)


def key_of_secret(secret):
    """Return the bytes to sign with, empty for what is no secret.

    >>> key_of_secret(" whsec_AQI= "), key_of_secret("whsec_"), key_of_secret("ü!")
    (b'\\x01\\x02', b'', b'')
    """
    with contextlib.suppress(ValueError):
        return base64.b64decode(secret.strip().removeprefix("whsec_"), validate=True)
    return b""


def verify_fal(headers, body, keys, now=None):
    """Verify a webhook of fal's queue.

    :param headers: mapping of lower-case header names
    :param bytes body: as it was received
    :param keys: fal's public keys, as `read_jwks()` returns them
    :param float now: seconds since the epoch, for tests
    :rtype: Delivery
    :raise WebhookRefusedError: for anything else than a fresh webhook with a valid signature
    """
    request_id, user_id, timestamp, signature = (
        _header(headers, f"x-fal-webhook-{name}")
        for name in ("request-id", "user-id", "timestamp", "signature")
    )
    _check_age(timestamp, now)
    digest = hashlib.sha256(body).hexdigest()
    signed = f"{request_id}\n{user_id}\n{timestamp}\n{digest}".encode()
    try:
        raw = bytes.fromhex(signature)
    except ValueError:
        raise WebhookRefusedError(WRONG_SIGNATURE) from None
    if not any(_is_signed(key, raw, signed) for key in keys):
        raise WebhookRefusedError(WRONG_SIGNATURE)
    return Delivery(request_id)


def read_jwks(document):
    """Return the Ed25519 public keys of a JSON Web Key Set, leaving out all else.

    >>> read_jwks({"keys": [{"kty": "OKP", "crv": "Ed25519", "x": "AQI"}, {"kty": "RSA"}]})
    [b'\\x01\\x02']
    """
    keys = []
    given = document.get("keys") if isinstance(document, dict) else None
    for key in given if isinstance(given, list) else ():
        if isinstance(key, dict) and key.get("crv") == "Ed25519" and isinstance(key.get("x"), str):
            text = key["x"]
            with contextlib.suppress(ValueError):  # no base64: no key of ours
                keys.append(base64.urlsafe_b64decode(text + "=" * (-len(text) % 4)))
    return keys


def _is_signed(key, signature, signed):
    try:
        Ed25519PublicKey.from_public_bytes(key).verify(signature, signed)
    except (InvalidSignature, ValueError):
        return False
    return True


def _header(headers, name):
    value = headers.get(name)
    if not value:
        raise WebhookRefusedError(f"it has no {name}")
    return value


def _check_age(timestamp, now=None):
    if not (timestamp.isascii() and timestamp.isdecimal() and len(timestamp) < 16):
        raise WebhookRefusedError(WRONG_TIME)
    if abs((time.time() if now is None else now) - int(timestamp)) > TOLERANCE:
        raise WebhookRefusedError(NOT_FRESH)


def _job_of(body):
    """Return the id of the job in a body of OpenAI (`data.id`) or Replicate (`id`)."""
    try:
        payload = json.loads(body)
    except (ValueError, RecursionError):
        return None
    if not isinstance(payload, dict):
        return None
    data = payload.get("data")
    found = data.get("id") if isinstance(data, dict) else payload.get("id")
    return found if isinstance(found, str) else None
