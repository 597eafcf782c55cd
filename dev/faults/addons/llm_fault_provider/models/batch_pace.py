"""Batches of providers in seconds, not minutes: LLM_FAULT_BATCHES says how many a lease has."""

import os
from importlib.util import find_spec

VARIABLE = "LLM_FAULT_BATCHES"

if os.environ.get(VARIABLE) and find_spec("odoo.addons.llm_generate_job_batch"):
    from odoo.addons.llm_generate_job_batch.models import provider_batches

    provider_batches.LEASE = float(os.environ[VARIABLE])
    provider_batches.AGAIN = provider_batches.HELD = 0.3
    provider_batches.FIRST_POLL = provider_batches.LAST_POLL = 0.5
    provider_batches.END_POLL = 0.5
    provider_batches.COLLECT_PAUSE = 0.3
    provider_batches.CHUNK = 20
    provider_batches.MOST_TRIES = 1000
