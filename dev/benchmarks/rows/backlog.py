"""What it costs to claim jobs, and to show figures, when there are very many of them."""

import statistics
import time

import backlog_data
from lib.lab import environment
from lib.say import step
from report import quantile, row

NAMES = ("claim", "figures")
QUEUED, FINISHED = 100_000, 1_000_000
#: Jobs of a claim, and claims of a round.
BATCH, CLAIMS = 10, 300
LOOKS = 15


def measure(stand, number):
    if number == 0:
        _fill(stand)
    empty, full = _claim_alternately(stand, CLAIMS)
    return {"empty": empty, "full": full, **_look(stand)}


def _fill(stand):
    for name in ("clear", "backlog"):
        stand.database(name)
        with environment(stand.lab, name) as env:
            backlog_data.prepare(env)
    step(f"{QUEUED:,} queued and {FINISHED:,} finished jobs …")
    with stand.connect("backlog") as cursor:
        backlog_data.queue(cursor, QUEUED)
        backlog_data.finish(cursor, FINISHED)
        backlog_data.settle(cursor)


def _claim_alternately(stand, count):
    """Return the times (ms) of claims in the empty and in the full database, in turn."""
    times = ([], [])
    lab = stand.lab
    with (
        stand.connect("clear") as clear,
        stand.connect("backlog") as backlog,
        environment(lab, "clear") as empty,
        environment(lab, "backlog") as full,
    ):
        for _ in range(count):
            backlog_data.queue(clear, BATCH)
            backlog_data.remove(clear, _claim(empty, times[0]))
            backlog_data.complete(backlog, _claim(full, times[1]))
            backlog_data.queue(backlog, BATCH)
    return times


def _claim(env, times):
    begin = time.perf_counter()
    claims, _wait = env["llm.generation.engine"]._claim(BATCH)
    times.append(1000 * (time.perf_counter() - begin))
    if len(claims) != BATCH:
        message = f"{len(claims)} of {BATCH} jobs were claimed"
        raise RuntimeError(message)
    return [claim.job_id for claim in claims]


def _look(stand):
    """Return what it takes to show the figures of one queue and of all queues."""
    times, statements = [], {}
    for look in range(LOOKS + 1):
        for limit in (1, None):
            with environment(stand.lab, "backlog") as env:
                queues = env["llm.generation.queue"].search([], limit=limit)
                before, begin = env.cr.sql_log_count, time.perf_counter()
                queues.get_queue_stats()
                spent = 1000 * (time.perf_counter() - begin)
                statements[limit] = env.cr.sql_log_count - before
                if look and limit is None:
                    times.append(spent)
    return {"look": statistics.median(times), "one": statements[1], "all": statements[None]}


def rows(rounds):
    def p95(what):
        return [quantile(figures[what], 0.95) for figures in rounds]

    ratios = [full / empty for full, empty in zip(p95("full"), p95("empty"), strict=True)]
    yield row(
        "claim p95 with 100,000 queued and 1,000,000 finished jobs (times that of an empty table)",
        ratios,
        at_most=1.2,
    )
    queues = backlog_data.MORE_QUEUES + 2
    yield row(
        f"figures of {queues} queues with 1,000,000 finished jobs (ms)",
        [figures["look"] for figures in rounds],
        at_most=100,
    )
    yield row(
        f"figures of {queues} queues (SQL statements)",
        rounds[0]["all"],
        at_most=rounds[0]["one"],
    )
