import time

import requests

from odoo import api, models

from .bench import work

TIMEOUT = 30
#: Seconds that a model which chats takes for its first word, and its words.
THINKING = 0.05
WORDS = ("Oak", " and", " oil.")
#: When it was called, by thread.
called_at = {}


class LlmProvider(models.Model):
    _inherit = "llm.provider"

    @api.model
    def _get_available_services(self):
        return [
            *super()._get_available_services(),
            ("bench", "Benchmark"),
            ("benchchat", "Benchmark: Chat"),
        ]

    def benchchat_normalize_prepend_messages(self, messages):
        return messages or []  # the family's chat asks each service for it

    def benchchat_chat(self, messages, **_kwargs):
        """Answer after a while, word by word."""
        called_at[messages[-1:].res_id] = time.perf_counter()
        time.sleep(THINKING)
        for word in WORDS:
            yield {"content": word}

    def bench_create_generation_job(self, job):
        """Answer in this process, or over HTTP where the provider has an address."""
        inputs = job.generation_inputs
        if not self.api_base:
            work(inputs["key"], inputs["seconds"])
            return {"state": "completed"}
        answer = requests.post(self.api_base, json=inputs, timeout=TIMEOUT)
        answer.raise_for_status()
        return {"state": "completed", "usage": answer.json()["usage"]}
