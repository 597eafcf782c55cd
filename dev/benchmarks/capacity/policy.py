"""What the engine does with a job that an overloaded provider refused; its own code says."""

import importlib.util
import sys
from pathlib import Path

#: As `llm_generate_job.max_retries` and the queue's `retry_delay_minutes` are by default.
MAX_RETRIES, BASE_DELAY = 3, 300.0


def _load():
    # By its path: the addon's package cannot be imported without Odoo.
    path = Path(__file__).resolve().parents[3] / "runner" / "backoff.py"
    spec = importlib.util.spec_from_file_location("capacity_backoff", path)
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # its dataclass looks there
    spec.loader.exec_module(module)
    return module


_backoff = _load()


def decide(free_waits, retries, rng):
    """Return (action, seconds) for a job with so many free waits and retries behind it."""
    decision = _backoff.decide(
        "overloaded",
        retry_count=retries,
        max_retries=MAX_RETRIES,
        free_waits=free_waits,
        base_delay=BASE_DELAY,
        rng=rng.random,
    )
    return decision.action, decision.delay
