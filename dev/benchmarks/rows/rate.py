"""Whether four Odoo processes together keep a provider's limits, and use them."""

import random
import time

from lib.lab import environment
from lib.say import step
from rate_fake import RateFake
from report import row

NAMES = ("rate",)
ROUNDS = 1
PROCESSES = 4
REQUESTS, TOKENS = 600, 10_000
#: Seconds of the measurement; longer than the fake's minute, so that it meets its own past.
SECONDS = 90
JOBS = int(REQUESTS / 60 * SECONDS * 1.2)


def measure(stand, _number):
    stand.database("rate")
    with RateFake(REQUESTS, TOKENS) as fake:
        with environment(stand.lab, "rate") as env:
            limits = {"requests_per_minute": REQUESTS, "tokens_per_minute": TOKENS}
            env["bench.llm"]._prepare("limited", 50, **limits).api_base = fake.url
        instance = stand.lab.instance
        servers = [instance.server("rate", name=f"rate{n}") for n in range(PROCESSES)]
        try:
            for server in servers:
                server.start()
            inputs = [
                # About 16 tokens each: both limits are nearly met.
                {"prompt": "p", "key": n, "max_tokens": random.randint(3, 7)}
                for n in range(JOBS)
            ]
            servers[0].call("bench.llm", "queue_inputs", "limited", inputs)
            for server in servers:
                server.call("bench.llm", "start_runner")
            step(f"the provider counts for {SECONDS} s …")
            while not fake.accepted:
                time.sleep(0.01)
            time.sleep(SECONDS)
            return _statistics(fake)
        finally:
            for server in servers:
                server.kill()


def _statistics(fake):
    begin = fake.accepted[0][0]
    counted = [tokens for when, tokens in fake.accepted if when - begin <= SECONDS]
    mean_tokens = sum(counted) / len(counted)
    allowed = min(REQUESTS, TOKENS / mean_tokens) / 60 * SECONDS
    return {"refused": len(fake.refused), "share": 100 * len(counted) / allowed}


def rows(rounds):
    name = f"provider of {REQUESTS} requests and {TOKENS:,} tokens a minute, {PROCESSES} processes"
    yield row(f"{name} (answers 429)", [figures["refused"] for figures in rounds], at_most=0)
    yield row(
        f"{name} (% of the allowed rate)",
        [figures["share"] for figures in rounds],
        better="higher",
        at_least=95,
    )
