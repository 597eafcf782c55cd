"""What a job costs PostgreSQL and Odoo: processor time, commits and write-ahead log.

Processor time is that of processes and not of the clock: other work on the machine disturbs it
little. The jobs have no answer to post; docs/scale.md has what one costs.
"""

import os
from pathlib import Path

from report import both, row

NAMES = ("costs",)
ROUNDS = 1
LANE, JOBS, SECONDS = "fifty", 1000, 0.05
TICKS = os.sysconf("SC_CLK_TCK")
_COUNTERS = """
    SELECT pg_wal_lsn_diff(pg_current_wal_insert_lsn(), '0/0')::bigint, xact_commit
    FROM pg_stat_database WHERE datname = current_database()
"""


def measure(stand, number):
    return {name: _costs(stand, side) for name, side in stand.interleave(number)}


def _costs(stand, side):
    side.restart()
    side.drain(LANE, 100)  # what is only once: plans, caches, code
    with stand.connect(side.name) as cursor:
        cursor.execute("CHECKPOINT")  # the first write to a page after one is logged whole
        before = _counters(stand, side, cursor)
        side.drain(LANE, JOBS, SECONDS)
        after = _counters(stand, side, cursor)
    return {name: (after[name] - before[name]) / JOBS for name in after}


def _counters(stand, side, cursor):
    cursor.execute(_COUNTERS)
    wal, commits = cursor.fetchone()
    return {
        "postgres": 1000 * _processor_seconds(stand.lab.cluster.process.pid),
        "odoo": 1000 * _processor_seconds(side.server.process.pid),
        "wal": wal / 1024,
        "commits": commits,
    }


def _processor_seconds(pid):
    """Return the processor time of a process and its children, those that have ended included."""
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text(encoding="utf-8").split()
    total = 0
    for one in (pid, *children):
        try:
            text = Path(f"/proc/{one}/stat").read_text(encoding="utf-8")
        except FileNotFoundError:
            continue  # it has ended meanwhile, and its parent has its time
        total += sum(map(int, text.rpartition(")")[2].split()[11:15]))
    return total / TICKS


def rows(rounds):
    for what, name in (
        ("postgres", "processor time of PostgreSQL (ms)"),
        ("odoo", "processor time of Odoo (ms)"),
        ("commits", "commits"),
        ("wal", "write-ahead log (kB)"),
    ):
        yield row(f"a job, 50 at once, no answer posted: {name}", *both(rounds, what))
