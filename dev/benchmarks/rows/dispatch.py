"""How long a job waits that need not wait: from its commit to the call of the provider."""

from itertools import chain

from report import both, quantile, row

NAMES = ("dispatch",)
JOBS = 100
LANE = "ten"


def measure(stand, number):
    figures = {}
    for name, side in stand.interleave(number):
        side.restart()
        (cold,) = side.call("dispatch", LANE, 1)
        side.call("dispatch", LANE, 10)
        figures[name] = {"cold": cold, "warm": side.call("dispatch", LANE, JOBS)}
    return figures


def rows(rounds):
    for share, limit in ((0.5, 4), (0.99, 50)):
        yield row(
            f"dispatch, commit to call, warm, p{100 * share:.0f} (ms)",
            *(quantile(chain(*some), share) for some in both(rounds, "warm")),
            at_most=limit,
            beats=True,
        )
    yield row(
        "dispatch, commit to call, first job of a server (ms)",
        *both(rounds, "cold"),
        at_most=1000,
        beats=True,
    )
