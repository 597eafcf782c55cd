"""Measure our queue beside queue_job, on the same machine: make bench.

make bench B=enqueue,rate measures some families only, and keeps the results on file.
"""

import argparse
import os

from lib import peer
from lib.say import run_main, say, stage, step
from rows import (
    backlog,
    blocking,
    costs,
    dispatch,
    first_word,
    in_flight,
    rate,
    screens,
    through_peer,
    throughput,
)
from stand import open_stand

import odoo.release

import report

FAMILIES = (
    throughput,
    dispatch,
    first_word,
    blocking,
    through_peer,
    in_flight,
    costs,
    backlog,
    screens,
    rate,
)

ROUNDS = 3
#: Load of the machine above which its figures say little.
CALM = 0.5


def main():
    families = _wanted()
    partial = len(families) < len(FAMILIES)
    with open_stand() as stand:
        say(_machine(stand))
        table = [one for family in families for one in _measure(stand, family, partial)]
    report.show(table)
    if not partial:
        report.save(table)
        say(f"\nwritten to dev/benchmarks/{report.RESULTS.name}")
    return 0 if all(one.ok for one in table) else 1


def _wanted():
    parser = argparse.ArgumentParser(description=__doc__)
    names = [name for family in FAMILIES for name in family.NAMES]
    parser.add_argument(
        "--only", default=os.environ.get("B", ""), help=f"some of {', '.join(names)}"
    )
    only = {name for name in parser.parse_args().only.split(",") if name}
    if unknown := only - set(names):
        parser.error(f"no such row: {', '.join(sorted(unknown))}; there are {', '.join(names)}")
    return [family for family in FAMILIES if not only or only & set(family.NAMES)]


def _machine(stand):
    load = os.getloadavg()[0]
    busy = f"\nThe machine is busy (load {load:.1f}): do not judge by these figures."
    return report.machine(
        f"PostgreSQL {stand.lab.cluster.sql('SHOW server_version')}",
        f"Odoo {odoo.release.version}",
        f"queue_job {peer.version()}",
    ) + (busy if load > CALM * os.cpu_count() else "")


def _measure(stand, family, partial):
    with stage(", ".join(family.NAMES)):
        rounds = []
        for number in range(getattr(family, "ROUNDS", ROUNDS)):
            step(f"round {number + 1}")
            rounds.append(family.measure(stand, number))
        if hasattr(family, "draw") and not partial:
            family.draw(rounds)
        table = list(family.rows(rounds))
        for one in table:
            say(f"{one.name}: {one.ours:,.2f} ({'-' if one.peer is None else f'{one.peer:,.2f}'})")
        return table


if __name__ == "__main__":
    run_main(main)
