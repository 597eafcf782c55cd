"""What a server weighs, and what it holds open, while 50 providers keep it waiting."""

import time

from report import both, row
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
    figures, plain = {}, _weigh_plain(stand)
    for name, side in stand.interleave(number):
        side.restart()
        side.drain(LANE, 1)
        time.sleep(1.0)
        idle = side.memory - plain
        side.call("enqueue", LANE, CALLS, SECONDS)
        memory, transaction = _watch(stand, side)
        side.wait_finished()
        figures[name] = {"idle": idle, "busy": memory - plain, "transaction": transaction}
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
    for what, name, limit in (("busy", "50 calls in flight", 150), ("idle", "idle runner", 10)):
        yield row(
            f"memory, {name}, more than Odoo without us (MB)", *both(rounds, what), at_most=limit
        )
    yield row(
        "oldest idle transaction, 50 calls of 5 s in flight (s)",
        *both(rounds, "transaction"),
        at_most=1,
    )
