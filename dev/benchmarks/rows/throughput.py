"""How fast jobs are queued, and how fast jobs that do nothing get done."""

from report import both, row

NAMES = ("enqueue", "noop")
JOBS = 1000
LANE = "fifty"


def measure(stand, number):
    figures = {}
    for name, side in stand.interleave(number):
        enqueue, drain = side.drain(LANE, JOBS)
        figures[name] = {"enqueue": JOBS / enqueue, "noop": JOBS / drain}
    return figures


def rows(rounds):
    yield row(
        "enqueue 1,000 jobs in one transaction (jobs/s)",
        *both(rounds, "enqueue"),
        better="higher",
        times=5,
    )
    yield row(
        "1,000 no-op jobs, queued to completed, one process (jobs/s)",
        *both(rounds, "noop"),
        better="higher",
        times=20,
    )
