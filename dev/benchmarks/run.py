"""Measure our queue beside queue_job, on the same machine: make bench.

make bench B=enqueue,rate measures some families only, and keeps the results on file. A family that
breaks off takes no figure of another one along: those are in the table, and in the file it names.
"""

import os

import report
from lib import paths, peer
from lib.say import halt, run_main, say, stage, step
from rows import (
    answers,
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

FAMILIES = (
    answers,
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
    is_whole = len(families) == len(FAMILIES)
    with open_stand() as stand:
        say(_machine(stand))
        table, broken = report.measure_all(families, lambda family: _measure(stand, family), keep)
    report.show(table)
    if broken:
        say(f"\nNOT MEASURED: {', '.join(broken)}; the rows above are in {kept()}")
    elif is_whole:
        report.save(table)
        say(f"\nwritten to {report.RESULTS.relative_to(paths.ROOT)}")
    return 0 if not broken and all(one.ok for one in table) else 1


def kept():
    return paths.state() / "bench.json"


def keep(table):
    report.save(table, kept())


def _wanted():
    names = [name for family in FAMILIES for name in family.NAMES]
    only = {name for name in os.environ.get("B", "").split(",") if name}
    if unknown := only - set(names):
        halt(
            f"there is no row {', '.join(sorted(unknown))} to measure: B is of {', '.join(names)}."
        )
    return [family for family in FAMILIES if not only or only & set(family.NAMES)]


def _machine(stand):
    load = os.getloadavg()[0]
    busy = f"\nThe machine is busy (load {load:.1f}): do not judge by these figures."
    return report.machine(
        f"PostgreSQL {stand.lab.cluster.sql('SHOW server_version')}",
        f"Odoo {odoo.release.version}",
        f"queue_job {peer.version()}",
    ) + (busy if load > CALM * os.cpu_count() else "")


def _measure(stand, family):
    with stage(", ".join(family.NAMES)):
        rounds = []
        for number in range(getattr(family, "ROUNDS", ROUNDS)):
            step(f"round {number + 1}")
            rounds.append(family.measure(stand, number))
        table = list(family.rows(rounds))
        for one in table:
            say(f"{one.name}: {one.ours:,.2f} ({'-' if one.peer is None else f'{one.peer:,.2f}'})")
        return table


if __name__ == "__main__":
    run_main(main)
