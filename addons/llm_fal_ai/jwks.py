"""The public keys with which fal signs its webhooks, fetched once a day and process."""

import threading
import time
from dataclasses import dataclass, field
from urllib.parse import urlsplit

from odoo.addons.llm_generate_job.exceptions import GenerationError, TransientError
from odoo.addons.llm_generate_job.protocol.signatures import read_jwks

ADDRESS = "https://rest.fal.ai/.well-known/jwks.json"
#: Seconds after which the keys are fetched again, as fal asks for.
LIFETIME = 24 * 3600
#: Seconds between two fetches, whatever keys are missing: forged webhooks must not cause a storm.
PAUSE = 300
#: The same where none are there, or those that are have become old.
AGAIN = 10
AWAY = "The keys of fal's webhooks could not be fetched a moment ago."


@dataclass
class _Entry:
    keys: list = field(default_factory=list)
    fetched_at: float = float("-inf")
    tried_at: float = float("-inf")


_entries = {}
_lock = threading.Lock()


def address_for(client):
    """Return where the keys are: fal's own, or those of the server that stands in for it."""
    parts = urlsplit(client.api_base)
    if client.is_fal:
        return ADDRESS
    return f"{parts.scheme}://{parts.netloc}/.well-known/jwks.json"


def get_keys(client, *, renew=False):
    """Return the keys.

    :param FalClient client: fetches them
    :param bool renew: fetch again, unless that was done a moment ago
    :raise GenerationError: when there are none and they cannot be fetched
    """
    address = address_for(client)
    with _lock:
        entry = _entries.setdefault(address, _Entry())
        now = time.monotonic()
        is_old = now - entry.fetched_at > LIFETIME
        pause = AGAIN if is_old else PAUSE
        if (is_old or renew) and now - entry.tried_at > pause:
            entry.tried_at = now
            try:
                entry.keys = read_jwks(client.fetch_keys(address))
                entry.fetched_at = now
            except GenerationError:
                if not entry.keys:
                    raise
        elif is_old and not entry.keys:
            raise TransientError(AWAY)
        return list(entry.keys)


def forget():
    """Forget all keys."""
    with _lock:
        _entries.clear()
