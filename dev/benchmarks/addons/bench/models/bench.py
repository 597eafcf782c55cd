import itertools
import random
import threading
import time

from odoo import api, models
from odoo.exceptions import UserError

#: Seconds to wait for a job to start before the measurement is given up.
PATIENCE = 90
PROMPT = "Describe the product in two sentences for the web shop: " + "a chair of oak, oiled. " * 6
#: What provider, model and threads of real answers are called.
ANSWERS = "answers"

_keys = itertools.count(1)
_calls = {}
_events = {}


def work(key, seconds):
    """Do what a job does: note when it was called, and block for a while."""
    if event := _events.get(key):
        _calls[key] = time.time_ns()
        event.set()
    if seconds:
        time.sleep(seconds)


class Bench(models.AbstractModel):
    """Queues work and takes the time, inside the server that runs it."""

    _name = "bench"
    _description = "Benchmark"

    @api.model
    def _queue(self, lane, keys, seconds):
        """Queue one job per key within the transaction.

        :param str lane: whose limit holds, `ten` or `fifty`
        :param float seconds: how long each job blocks
        """
        raise NotImplementedError

    @api.model
    def enqueue(self, lane, count, seconds=0.0):
        """Queue jobs in one transaction.

        :return: dict with the `seconds` that it took, and the time (ns) when it was `committed`
        """
        keys = [next(_keys) for _ in range(count)]
        begin = time.perf_counter()
        committed = self._stamp_commit()
        self._queue(lane, keys, seconds)
        self.env.cr.commit()  # pylint: disable=invalid-commit
        return {"seconds": time.perf_counter() - begin, "committed": committed[0]}

    @api.model
    def dispatch(self, lane, count):
        """Queue jobs one by one; return the milliseconds from each commit to its call."""
        latencies = []
        for key in itertools.islice(_keys, count):
            event = _events[key] = threading.Event()
            committed = self._stamp_commit()
            self._queue(lane, [key], 0.0)
            self.env.cr.commit()  # pylint: disable=invalid-commit
            if not event.wait(PATIENCE):
                raise UserError(self.env._("Job %s was not started.", key))
            latencies.append(max(0.0, (_calls.pop(key) - committed[0]) / 1e6))
            del _events[key]
            # Long enough for the job to end, and in step with no timer.
            time.sleep(random.uniform(0.02, 0.05))
        return latencies

    @api.model
    def _stamp_commit(self):
        """Return a list to which the time is added once the transaction is committed."""
        stamps = []
        self.env.cr.postcommit.add(lambda: stamps.append(time.time_ns()))
        return stamps

    # === REAL ANSWERS === #

    @api.model
    def answers(self, way, count, limit, address):
        """Have so many questions answered over HTTP, each in a thread of its own.

        :param str way: `chat`, `direct`, or one that the queue of this database has
        :param int limit: how many the queue asks at once
        :param str address: of a provider as OpenAI is
        :return: dict of the milliseconds of `processor` time of this process that one takes, of the
            `seconds` for all, and of the `rate` a second
        """
        threads = self._answer_threads(count, limit, address)
        self.env.cr.commit()  # pylint: disable=invalid-commit
        processor, clock = time.process_time(), time.perf_counter()
        getattr(self, f"_answers_{way}")(threads)
        seconds = time.perf_counter() - clock
        return {
            "processor": 1000 * (time.process_time() - processor) / count,
            "seconds": seconds,
            "rate": count / seconds,
        }

    @api.model
    def _answer_threads(self, count, limit, address):
        provider = self._answer_provider(limit)
        provider.write({"service": "openai", "api_base": address, "api_key": "none"})
        place = {"provider_id": provider.id, "model_id": provider.model_ids[:1].id}
        return self.env["llm.thread"].create([
            {"name": f"Product {number}", **place} for number in range(count)
        ])

    @api.model
    def _answer_provider(self, limit):
        """Return a provider with a model; the queue asks it so many times at once."""
        providers = self.env["llm.provider"]
        if not (provider := providers.search([("name", "=", ANSWERS)], limit=1)):
            provider = providers.create({"name": ANSWERS, "service": "openai"})
            self.env["llm.model"].create({
                "name": ANSWERS,
                "provider_id": provider.id,
                "model_use": "chat",
                "default": True,
            })
        return provider

    @api.model
    def _prompt(self, thread):
        return f"{PROMPT}{thread.id}"

    @api.model
    def _ask(self, thread):
        """Return what a model answers, and nothing else."""
        asked = [{"role": "user", "content": self._prompt(thread)}]
        chunks = thread.provider_id.chat(asked, model=thread.model_id, stream=True)
        return "".join(chunk.get("content") or "" for chunk in chunks)

    @api.model
    def _answers_chat(self, threads):
        for thread in threads:
            self._ask(thread)

    @api.model
    def _answers_direct(self, threads):
        for thread in threads:
            # Each by itself, as it is asked for: not all of them are read for each.
            for _event in thread.with_prefetch().generate(self._prompt(thread)):
                pass
            self.env.cr.commit()  # pylint: disable=invalid-commit

    @api.model
    def _await_states(self, records, live, good):
        """Wait until no record is in a state of `live`; all have to be in `good` then."""
        # A look is no part of what is measured: it reads no record.
        these = [("id", "in", records.ids)]
        self.env.cr.commit()  # pylint: disable=invalid-commit
        while records.search_count([*these, ("state", "in", list(live))], limit=1):
            self.env.cr.commit()  # pylint: disable=invalid-commit
            time.sleep(0.02)
        if failed := records.search_count([*these, ("state", "!=", good)]):
            raise UserError(self.env._("Jobs of the benchmark failed: %s", failed))
