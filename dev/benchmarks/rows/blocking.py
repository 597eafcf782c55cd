"""How well the slots are used while providers take their time."""

from report import both, row

NAMES = ("blocking",)
SECONDS = 0.5
#: (lane, jobs, seconds allowed): with no loss it is jobs / limit x 0.5 s.
RUNS = (("ten", 40, 2.1), ("fifty", 400, 4.4))
SLOTS = {"ten": 10, "fifty": 50}


def measure(stand, number):
    return {
        name: {lane: side.drain(lane, jobs, SECONDS)[1] for lane, jobs, _limit in RUNS}
        for name, side in stand.interleave(number)
    }


def rows(rounds):
    for lane, jobs, limit in RUNS:
        yield row(
            f"{jobs} calls of 0.5 s at limit {SLOTS[lane]} (s)",
            *both(rounds, lane),
            at_most=limit,
        )
