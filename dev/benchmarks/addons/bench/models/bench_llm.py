import time
from itertools import cycle

from odoo import api, models

from .bench import PROMPT
from .llm_provider import WORDS, called_at

SCHEMA = {
    "type": "object",
    "required": ["prompt"],
    "additionalProperties": False,
    "properties": {
        "prompt": {"type": "string", "minLength": 1, "maxLength": 10_000},
        "key": {"type": "integer", "minimum": 0},
        "seconds": {"type": "number", "minimum": 0, "maximum": 60},
        "max_tokens": {"type": "integer", "minimum": 1, "maximum": 4096},
    },
}
THREADS = 20


class BenchLlm(models.AbstractModel):
    """The queue that is measured; `questions()` and `kept` answers need its batches."""

    _name = "bench.llm"
    _inherit = "bench"
    _description = "Benchmark of our queue"

    @api.model
    def _prepare(self, lane, limit, **queue_values):
        """Make a provider with a limit, its model, and threads for its jobs."""
        provider = self.env["llm.provider"].create({"name": lane, "service": "bench"})
        model = self.env["llm.model"].create({
            "name": f"{lane} model",
            "provider_id": provider.id,
            "model_use": "chat",
            "default": True,
            "details": {"input_schema": SCHEMA},
        })
        # Those who queue jobs over RPC; only the owner of a thread does that.
        owner = self.env.ref("base.user_admin").id
        place = {"user_id": owner, "provider_id": provider.id, "model_id": model.id}
        self.env["llm.thread"].create([
            {"name": f"{lane} {number}", **place} for number in range(THREADS)
        ])
        queue = self.env["llm.generation.queue"]._get_or_create_queue(provider)
        queue.write({"max_concurrent_jobs": limit, **queue_values})
        return provider

    @api.model
    def _queue(self, lane, keys, seconds):
        self.queue_inputs(
            lane, [{"prompt": PROMPT, "key": key, "seconds": seconds} for key in keys]
        )

    @api.model
    def queue_inputs(self, lane, inputs):
        """Queue one job for each dict of inputs."""
        threads = self.env["llm.thread"].search([("provider_id.name", "=", lane)])
        self.env["llm.generation.job"].create([
            {"thread_id": thread.id, "generation_inputs": values}
            for thread, values in zip(cycle(threads), inputs, strict=False)
        ]).action_queue()
        return len(inputs)

    @api.model
    def start_runner(self):
        """Have a runner in this very process."""
        return self.env["llm.generation.queue"]._process_all_queues()

    @api.model
    def first_words(self, count):
        """Ask the same model directly and through the queue, in turn.

        :return: `{"direct": […], "queue": […]}`, each a dict with the milliseconds from the
            question to the moment when the model was `called`, and to when its first word was
            `seen` by whoever asked
        """
        thread = self._chat_thread()
        samples = {"direct": [], "queue": []}
        for number in range(count):
            for way in ("direct", "queue") if number % 2 else ("queue", "direct"):
                samples[way].append(self._first_word(thread.copy(), use_queue=way == "queue"))
                time.sleep(0.03)
        return samples

    @api.model
    def _chat_thread(self):
        """Return a thread of a provider that chats; made when it is first asked for."""
        threads = self.env["llm.thread"]
        if found := threads.search([("provider_id.service", "=", "benchchat")], limit=1):
            return found
        provider = self.env["llm.provider"].create({"name": "chat", "service": "benchchat"})
        model = self.env["llm.model"].create({
            "name": "chat model",
            "provider_id": provider.id,
            "model_use": "chat",
            "default": True,
        })
        return threads.create({"name": "chat", "provider_id": provider.id, "model_id": model.id})

    @api.model
    def _first_word(self, thread, *, use_queue):
        self.env.cr.commit()  # pylint: disable=invalid-commit
        seen, begin = None, time.perf_counter()
        for event in thread.generate_response("What is it made of?", use_queue=use_queue):
            message = event.get("message")
            # The message of a `job_status` is a sentence.
            body = message["body"] if isinstance(message, dict) else ""
            if seen is None and WORDS[0] in body:
                seen = time.perf_counter()
        self.env.cr.commit()  # pylint: disable=invalid-commit
        marks = {"called": called_at.pop(thread.id), "seen": seen}
        return {name: 1000 * (moment - begin) for name, moment in marks.items()}

    @api.model
    def questions(self, count, post=True):
        """Queue so many questions, each another one, and forget them.

        :param bool post: whether each gets a conversation for its messages
        :return: seconds, commit included
        """
        provider = self._answer_provider(1)
        queue = self.env["llm.generation.queue"]._get_or_create_queue(provider)
        queue.enabled = False
        self.env.cr.commit()  # pylint: disable=invalid-commit
        prompts = [f"{PROMPT}{number}" for number in range(count)]
        begin = time.perf_counter()
        model = provider.model_ids[:1]
        batch = self.env["llm.generation.job"].create_batch(prompts, model=model, post=post)
        self.env.cr.commit()  # pylint: disable=invalid-commit
        seconds = time.perf_counter() - begin
        batch.job_ids.action_cancel()
        queue.enabled = True
        return seconds

    # === REAL ANSWERS === #

    @api.model
    def _answer_provider(self, limit):
        provider = super()._answer_provider(limit)
        queue = self.env["llm.generation.queue"]._get_or_create_queue(provider)
        queue.max_concurrent_jobs = limit
        return provider

    @api.model
    def _answers_queued(self, threads):
        jobs = self.env["llm.generation.job"].create([
            {"thread_id": thread.id, "generation_inputs": {"prompt": self._prompt(thread)}}
            for thread in threads
        ])
        jobs.action_queue()
        self._await_states(jobs, {"queued", "running"}, "completed")

    @api.model
    def _answers_kept(self, threads):
        prompts = [self._prompt(thread) for thread in threads]
        batch = self.env["llm.generation.job"].create_batch(
            prompts, model=threads.model_id, post=False
        )
        self._await_states(batch.job_ids, {"queued", "running"}, "completed")
