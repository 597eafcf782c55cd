"""What a server weighs, and what it holds open, while 50 providers keep it waiting."""

import time

from report import row
from stand import resident

NAMES = ("memory", "activity")
CALLS, SECONDS = 50, 5.0
LANE = "fifty"
#: The longest time that a session of the database has been idle within a transaction.
IDLE = """
    SELECT COALESCE(max(EXTRACT(EPOCH FROM clock_timestamp() - state_change)), 0)
    FROM pg_stat_activity
    WHERE datname = current_database() AND state LIKE 'idle in transaction%'
"""


def measure(stand, number):
    figures = {"plain": _weigh_plain(stand)}
    for name, side in stand.interleave(number):
        side.restart()
        side.drain(LANE, 1)
        time.sleep(1.0)
        idle = side.memory
        side.call("enqueue", LANE, CALLS, SECONDS)
        memory, transaction = _watch(stand, side)
        side.wait_finished()
        figures[name] = {"idle": idle, "busy": memory, "transaction": transaction}
    return figures


def _weigh_plain(stand):
    """Return the memory of a server without us, in which somebody has looked at something."""
    stand.database("plain")
    server = stand.lab.instance.server("plain", name="plain").start()
    server.call("res.partner", "search_count", [])
    server.call("llm.thread", "search_count", [])
    time.sleep(1.0)
    memory = resident(server)
    server.stop()
    return memory


def _watch(stand, side):
    """Return the highest memory and the oldest idle transaction of the time in flight."""
    memory, oldest = 0.0, 0.0
    with stand.connect(side.name) as cursor:
        deadline = time.monotonic() + SECONDS - 0.3
        while time.monotonic() < deadline:
            cursor.execute(IDLE)
            oldest = max(oldest, float(cursor.fetchone()[0]))
            memory = max(memory, side.memory)
            time.sleep(0.05)
    return memory, oldest


def rows(rounds):
    def more(side, what):
        return [figures[side][what] - figures["plain"] for figures in rounds]

    yield row(
        "memory, 50 calls in flight, more than Odoo without us (MB)",
        more("ours", "busy"),
        more("peer", "busy"),
        at_most=150,
    )
    yield row(
        "memory, idle runner, more than Odoo without us (MB)",
        more("ours", "idle"),
        more("peer", "idle"),
        at_most=10,
    )
    yield row(
        "oldest idle transaction, 50 calls of 5 s in flight (s)",
        [figures["ours"]["transaction"] for figures in rounds],
        [figures["peer"]["transaction"] for figures in rounds],
        at_most=1,
    )
