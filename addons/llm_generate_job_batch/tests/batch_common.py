import itertools
from datetime import timedelta

from odoo import fields

from odoo.addons.llm_generate_job.tests.common import LlmGenerationCommon


class FakeBatches:
    """A provider's side of the protocol of batches, in memory.

    `raises` is what the next calls of a method raise, by its name: before the provider does
    anything, or after it where the name ends with `_done`. `outcomes` has the results of requests
    that are not just answered, by the place in their batch; `left_out` has those without any.
    """

    def __init__(self):
        self.batches, self.raises, self.outcomes, self.calls = {}, {}, {}, []
        self.state, self.told, self.left_out = "running", {}, set()
        self.numbers = itertools.count(1)

    def _meet(self, name):
        self.calls.append(name)
        if errors := self.raises.get(name):
            raise errors.pop(0)

    def prepare(self, _provider, job):
        self._meet("prepare")
        return {"prompt": job.generation_inputs["prompt"]}

    def submit(self, _provider, batch, requests):
        self._meet("submit")
        external = f"batch-{next(self.numbers)}"
        self.batches[external] = {"key": batch.key, "requests": requests, "is_cancelled": False}
        self._meet("submit_done")
        return external

    def find(self, _provider, batch):
        self._meet("find")
        found = (one for one, told in self.batches.items() if told["key"] == batch.key)
        return next(found, None)

    def check(self, _provider, batch):
        self._meet("check")
        told = {"state": self.state, "done": 1, **self.told}
        if self.state == "ended":
            told["results"] = self.results(batch.external_id)
        return told

    def results(self, external):
        """Yield what came of the requests of a batch, the last one first."""
        asked = list(enumerate(self.batches[external]["requests"].items()))
        for place, (custom_id, request) in reversed(asked):
            self._meet("result")
            if place not in self.left_out:
                yield custom_id, self.outcomes.get(place) or self.answer(request)

    def answer(self, request):
        return {
            "state": "completed",
            "text": f"Answer to {request['prompt']}",
            "finish_reason": "stop",
            "usage": {"prompt_tokens": 7, "completion_tokens": 2},
        }

    def cancel(self, _provider, batch):
        self._meet("cancel")
        self.batches[batch.external_id]["is_cancelled"] = True
        return True


class ProviderBatchCommon(LlmGenerationCommon):
    """A queue that takes batches of two jobs or more, at once."""

    def setUp(self):
        super().setUp()
        self.remote = FakeBatches()
        self._take_batches("fakenative")
        self.queue.write({"uses_batches": True, "batch_jobs": 2, "batch_minutes": 10})
        self.engine = self._engine()

    def _take_batches(self, service):
        methods = {
            f"{service}_{verb}_generation_batch": self._calling(verb)
            for verb in ("prepare", "submit", "find", "check", "cancel")
        }
        self.enterContext(self._offered(**methods))

    def _calling(self, verb):
        def call(provider, *args):
            return getattr(self.remote, verb)(provider, *args)

        return call

    def _economy(self, number=2, **values):
        """Return jobs that run when idle, each in a thread of its own."""
        jobs = self.env["llm.generation.job"]
        for place in range(number):
            inputs = {"prompt": f"Question {place}"}
            given = {"is_economy": True, "generation_inputs": inputs, **values}
            jobs += self._create_job("queued", **given)
        return jobs

    def _batches(self):
        return self.env["llm.generation.provider.batch"].search([
            ("provider_id", "in", (self.native | self.direct).ids)
        ])

    def _collect(self):
        """Have batches filled, and return them."""
        before = self._batches()
        self.engine._schedule()
        return self._batches() - before

    def _go_on(self, batch=None):
        """Have all steps done that are due at some time."""
        for one in batch or self._batches():
            if one.next_step_at:
                one.write({"next_step_at": self._ago(1), "leased_until": False})
        self.engine._check_due()

    def _submitted(self, number=2, **values):
        """Return jobs, and the batch with them that the provider has."""
        self.queue.batch_jobs = number
        jobs = self._economy(number, **values)
        batch = self._collect()
        self._go_on(batch)
        self.assertEqual(batch.state, "running")
        return jobs, batch

    def _ended(self, batch):
        """Have the provider end a batch, and store what it has brought."""
        self.remote.state = "ended"
        self._go_on(batch)
        return batch

    @staticmethod
    def _ago(seconds):
        return fields.Datetime.now() - timedelta(seconds=seconds)

    def _answers_of(self, job):
        return job.thread_id.message_ids.filtered(lambda one: one.llm_role == "assistant")
