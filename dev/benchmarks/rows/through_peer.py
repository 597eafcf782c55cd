"""What our jobs cost when queue_job runs them, by our bridge, beside queue_job without us.

The same work in our own runner is in the rows of the other families. There is one bar: what a
record of queue_job costs is up to queue_job, and ours is added to it.
"""

from report import quantile, row

from . import blocking, dispatch, throughput

NAMES = ("through_queue_job",)
ROUNDS = 2
#: How fast we are there, as a share of queue_job's own speed: it takes 1.2 times as long at most.
WORTH = round(1 / 1.2, 2)


def measure(stand, number):
    sides = {"bridge": stand.bridge, "peer": stand.peer}
    names = list(sides)[::-1] if number % 2 else list(sides)
    return {name: _measure_side(sides[name]) for name in names}


def _measure_side(side):
    side.restart()
    side.call("dispatch", dispatch.LANE, 10)
    figures = {
        "dispatch": side.call("dispatch", dispatch.LANE, dispatch.JOBS),
        "noop": throughput.JOBS / side.drain(throughput.LANE, throughput.JOBS)[1],
    }
    for lane, jobs, _limit in blocking.RUNS:
        figures[lane] = side.drain(lane, jobs, blocking.SECONDS)[1]
    return figures


def rows(rounds):
    def of(side, what):
        return [figures[side][what] for figures in rounds]

    def pooled(side):
        return [latency for latencies in of(side, "dispatch") for latency in latencies]

    yield row(
        "through queue_job: 1,000 no-op jobs, one process (jobs/s)",
        of("bridge", "noop"),
        of("peer", "noop"),
        better="higher",
    )
    for share in (0.5, 0.99):
        yield row(
            f"through queue_job: dispatch, commit to call, warm, p{100 * share:.0f} (ms)",
            quantile(pooled("bridge"), share),
            quantile(pooled("peer"), share),
        )
    for lane, jobs, _limit in blocking.RUNS:
        slots = blocking.SLOTS[lane]
        yield row(
            f"through queue_job: {jobs} calls of 0.5 s at limit {slots} (s)",
            of("bridge", lane),
            of("peer", lane),
            # At limit 10 most of it is waiting for the provider.
            times=WORTH if lane == throughput.LANE else None,
        )
