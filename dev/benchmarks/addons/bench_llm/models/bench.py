import time
from itertools import cycle

from odoo import api, models
from odoo.exceptions import UserError

from .llm_provider import WORDS, called_at

PROMPT = "Describe the product in two sentences for the web shop: " + "a chair of oak, oiled. " * 6

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


class Bench(models.AbstractModel):
    _inherit = "bench"

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
        self.env["llm.thread"].create([
            {"name": f"{lane} {n}", "provider_id": provider.id, "model_id": model.id}
            for n in range(THREADS)
        ])
        queue = self.env["llm.generation.queue"]._get_or_create_queue(provider)
        queue.write({"max_concurrent_jobs": limit, **queue_values})
        return provider

    @api.model
    def _queue(self, lane, keys, seconds):
        self._queue_inputs(
            lane, [{"prompt": PROMPT, "key": key, "seconds": seconds} for key in keys]
        )

    @api.model
    def _queue_inputs(self, lane, inputs):
        threads = self.env["llm.thread"].search([("provider_id.name", "=", lane)])
        self.env["llm.generation.job"].create([
            {"thread_id": thread.id, "generation_inputs": values}
            for thread, values in zip(cycle(threads), inputs, strict=False)
        ]).action_queue()

    @api.model
    def queue_inputs(self, lane, inputs):
        """Queue one job for each dict of inputs."""
        self._queue_inputs(lane, inputs)
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

    # === REAL ANSWERS === #

    @api.model
    def answers(self, way, count, limit, address):
        """Have so many questions answered over HTTP, each in a thread of its own.

        :param str way: `chat`, `direct`, `queued`, or `kept` by jobs that post nothing
        :param int limit: how many the queue asks at once
        :param str address: of a provider as OpenAI is
        :return: dict of the milliseconds of `processor` time of this process that one takes, and of
            the `rate` a second
        """
        threads = self._answer_threads(count, limit, address)
        self.env.cr.commit()  # pylint: disable=invalid-commit
        processor, clock = time.process_time(), time.perf_counter()
        getattr(self, f"_answers_{way}")(threads)
        return {
            "processor": 1000 * (time.process_time() - processor) / count,
            "rate": count / (time.perf_counter() - clock),
        }

    @api.model
    def _answer_threads(self, count, limit, address):
        provider = self.env["llm.provider"].search([("name", "=", "answers")], limit=1)
        provider = provider or self._prepare("answers", limit)
        provider.write({"service": "openai", "api_base": address, "api_key": "none"})
        place = {"provider_id": provider.id, "model_id": provider.model_ids.id}
        return self.env["llm.thread"].create([
            {"name": f"Product {number}", **place} for number in range(count)
        ])

    @api.model
    def _answers_chat(self, threads):
        for thread in threads:
            asked = [{"role": "user", "content": f"{PROMPT}{thread.id}"}]
            for _chunk in thread.provider_id.chat(asked, model=thread.model_id, stream=True):
                pass

    @api.model
    def _answers_direct(self, threads):
        for thread in threads:
            for _event in thread.generate(f"{PROMPT}{thread.id}"):
                pass
            self.env.cr.commit()  # pylint: disable=invalid-commit

    @api.model
    def _answers_kept(self, threads):
        self._answers_queued(threads, thread_id=threads[:1].id, post=False)

    @api.model
    def _answers_queued(self, threads, **values):
        jobs = self.env["llm.generation.job"].create([
            {
                "thread_id": thread.id,
                "generation_inputs": {"prompt": f"{PROMPT}{thread.id}"},
                **values,
            }
            for thread in threads
        ])
        jobs.action_queue()
        states, ids = {"queued"}, jobs.ids
        while states & {"queued", "running"}:
            self.env.cr.commit()  # pylint: disable=invalid-commit
            time.sleep(0.02)
            states = set(jobs.browse(ids).mapped("state"))
        if states != {"completed"}:
            raise UserError(self.env._("Jobs of the benchmark failed: %s", jobs[0].error_message))
