from collections import defaultdict

from prometheus_client.core import (
    CollectorRegistry,
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
)
from prometheus_client.exposition import generate_latest

from odoo import api, fields, models
from odoo.fields import Domain

from .. import statements as sql

PREFIX = "llm_generation"
#: Upper bounds, in seconds, of the buckets of the histograms.
WAITS = (0.1, 0.5, 1, 5, 10, 30, 60, 300, 900, 3600)
RUNS = (0.5, 1, 2, 5, 10, 20, 30, 60, 120, 300, 900)


class LlmGenerationMetrics(models.AbstractModel):
    """What monitoring asks for, the same whichever server is asked."""

    _name = "llm.generation.metrics"
    _description = "LLM Generation Metrics"
    _inherit = ["llm.generation.engine"]

    @api.model
    def _expose(self):
        """Return the metrics of all queues in Prometheus' text format, as bytes.

        Format: https://prometheus.io/docs/instrumenting/exposition_formats/
        """
        with self._transaction() as metrics:
            metrics._count()
            registry = CollectorRegistry()
            registry.register(Collected(metrics._families()))
            return generate_latest(registry)

    @api.model
    def _count(self):
        """Bring the counters up to a few seconds ago; another process may be at it just now."""
        self._change(sql.OPEN_MARK, touches=())
        marks = self._select(sql.TAKE_MARK)
        if not marks:
            return
        since, until = marks[0]
        params = {"since": since, "until": until, "waits": list(WAITS), "runs": list(RUNS)}
        self._change(sql.COUNT, params, touches=["llm.generation.tally"])
        self._change(sql.MOVE_MARK, params, touches=["llm.generation.tally.mark"])

    # === FAMILIES === #

    @api.model
    def _families(self):
        queues = self.env["llm.generation.queue"].search(Domain.TRUE)
        names = {
            queue.provider_id.id: f"{queue.provider_id.name} ({queue.provider_id.id})"
            for queue in queues
        }
        tallies = defaultdict(lambda: defaultdict(dict))
        for provider_id, series, label, value in self._select(sql.TALLIES):
            tallies[series][names.get(provider_id, str(provider_id))][label] = value
        return [
            *self._queue_families(queues, names),
            *self._runner_families(),
            *self._counter_families(tallies),
            self._histogram(tallies, "wait", "Seconds that finished jobs waited.", WAITS),
            self._histogram(tallies, "run", "Seconds that finished jobs ran.", RUNS),
        ]

    @api.model
    def _queue_families(self, queues, names):
        jobs = _gauge("jobs", "Jobs that have not ended.", "provider", "state")
        oldest = _gauge("oldest_wait_seconds", "Wait of the job that waits longest.", "provider")
        limit = _gauge("limit_jobs", "Jobs that may run at once.", "provider")
        pause = _gauge("pause_seconds", "Seconds until the queue starts jobs again.", "provider")
        health = _gauge("health", "1 for the health that the queue has.", "provider", "health")
        now = fields.Datetime.now()
        figures = self.env["llm.generation.engine"]._statistics(queues)
        for queue in queues:
            name, of_queue = names[queue.provider_id.id], figures[queue.id]
            delayed = of_queue["delayed"]
            waiting = of_queue["queued"] - delayed
            for state, count in (
                ("waiting", waiting), ("scheduled", delayed), ("running", of_queue["running"]),
            ):  # fmt: skip
                jobs.add_metric([name, state], count)
            since = of_queue["waiting_since"] if waiting else None
            oldest.add_metric([name], max(0.0, (now - since).total_seconds()) if since else 0)
            limit.add_metric([name], queue.max_concurrent_jobs)
            left = (queue.paused_until - now).total_seconds() if queue.paused_until else 0
            pause.add_metric([name], max(0.0, left))
            current = self.env["llm.generation.engine"]._evaluate_health(queue, of_queue)[0]
            for one, _label in queue._fields["queue_health"].selection:
                health.add_metric([name, one], int(one == current))
        return [jobs, oldest, limit, pause, health]

    @api.model
    def _runner_families(self):
        slots = _gauge("runner_slots", "Jobs that a process runs at once, at most.", "runner")
        silence = _gauge("runner_silence_seconds", "Seconds since its last heartbeat.", "runner")
        for name, count, seconds in self._select(sql.RUNNERS):
            slots.add_metric([name], count)
            silence.add_metric([name], max(0.0, seconds))
        return [slots, silence]

    @api.model
    def _counter_families(self, tallies):
        jobs = _counter("finished_jobs", "Jobs that ended.", "provider", "state")
        tokens = _counter("tokens", "Tokens that were used.", "provider", "kind")
        for family, series in ((jobs, "jobs"), (tokens, "tokens")):
            for name, values in tallies[series].items():
                for label, value in values.items():
                    family.add_metric([name, label], value)
        attempts = _counter("attempts", "Attempts that ended.", "provider", "outcome", "error")
        for name, values in tallies["attempts"].items():
            for label, value in values.items():
                outcome, _bar, error = label.partition("|")
                attempts.add_metric([name, outcome, error], value)
        return [jobs, attempts, tokens]

    @api.model
    def _histogram(self, tallies, series, documentation, bounds):
        name = f"{PREFIX}_{series}_seconds"
        family = HistogramMetricFamily(name, documentation, labels=["provider"])
        for provider, counts in tallies[series].items():
            total, buckets = 0.0, []
            for place, bound in enumerate([*map(str, bounds), "+Inf"]):
                total += counts.get(str(place), 0.0)
                buckets.append((bound, total))
            family.add_metric([provider], buckets, tallies[f"{series}_sum"][provider].get("", 0.0))
        return family


class Collected:
    """Families of metrics that are there already, as a registry wants them."""

    def __init__(self, families):
        self._families = families

    def collect(self):
        """Return the families."""
        return self._families


def _gauge(name, documentation, *labels):
    return GaugeMetricFamily(f"{PREFIX}_{name}", documentation, labels=labels)


def _counter(name, documentation, *labels):
    return CounterMetricFamily(f"{PREFIX}_{name}", documentation, labels=labels)
