"""What our jobs cost when queue_job runs them, by our bridge, beside queue_job without us.

The same work in our own runner is in the rows of the other families. There is one bar: what a
record of queue_job costs is up to queue_job, and ours is added to it.
"""

from itertools import chain

from report import both, quantile, row

from . import blocking, dispatch, throughput

NAMES = ("through_queue_job",)
ROUNDS = 2
#: How fast we are there, as a share of queue_job's own speed: it takes 1.2 times as long at most.
WORTH = round(1 / 1.2, 2)


def measure(stand, number):
    return {name: _measure_side(side) for name, side in stand.interleave(number, "bridge")}


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
    yield row(
        "through queue_job: 1,000 no-op jobs, one process (jobs/s)",
        *both(rounds, "noop", "bridge"),
        better="higher",
    )
    for share in (0.5, 0.99):
        yield row(
            f"through queue_job: dispatch, commit to call, warm, p{100 * share:.0f} (ms)",
            *(quantile(chain(*some), share) for some in both(rounds, "dispatch", "bridge")),
        )
    for lane, jobs, _limit in blocking.RUNS:
        slots = blocking.SLOTS[lane]
        yield row(
            f"through queue_job: {jobs} calls of 0.5 s at limit {slots} (s)",
            *both(rounds, lane, "bridge"),
            # At limit 10 most of it is waiting for the provider.
            times=WORTH if lane == throughput.LANE else None,
        )
