"""What follows from the costs by arithmetic, and from the simulation of the day."""

import hashlib
import json
from pathlib import Path

from . import foretell, model, plan
from .simulation import BULK, CHAT, Simulation, quantile

HERE = Path(__file__).resolve().parent
RESULT = HERE.parent / "scale.json"
#: What these figures follow from.
SOURCES = (
    model.COSTS,
    *(HERE / f"{name}.py" for name in ("model", "plan", "policy", "simulation")),
)
#: Highest load of a machine at which its answers are still prompt.
FULL = 0.7
IDS = 2**31
#: Transaction numbers after which PostgreSQL freezes a table, by default.
FREEZE = 200_000_000
JOB_TABLES = ("llm_generation_job", "llm_generation_attempt")
KEPT_TABLES = ("mail_message", "llm_thread")


def fingerprint():
    """Return what changes when the costs, the plan or the simulation do."""
    return hashlib.sha256(b"".join(path.read_bytes() for path in SOURCES)).hexdigest()[:16]


def simulate(jobs=plan.JOBS):
    """Replay the day; return its figures and, hour by hour, what the picture shows."""
    simulation = Simulation(plan.setup(), model.costs(model.read()))
    for asked in plan.asked(jobs):
        simulation.step(asked)
    tally, loads = simulation.tally, simulation.loads
    odoo = [max(row) for row in zip(*(v for k, v in loads.items() if k != "postgres"), strict=True)]
    waits = {}
    for name, kind in (("chat", CHAT), ("bulk", BULK)):
        waits[name] = {f"p{p}": quantile(simulation.waits[kind], p / 100) for p in (50, 95, 99)}
    return {
        "asked": tally["asked"],
        "completed": tally["completed"],
        "failed": tally["failed"],
        "unended": simulation.unended,
        "attempts": tally["attempts"],
        "rescued": tally["rescued"],
        "refused": tally["refused"],
        "waits": waits,
        "deepest": max(simulation.depths),
        "most_in_flight": max(simulation.in_flight),
        "limits_held": all(
            most <= one.limit for most, one in zip(simulation.most, plan.PROVIDERS, strict=True)
        ),
        "postgres": [round(mean(hour), 3) for hour in hours(loads["postgres"])],
        "odoo": [round(mean(hour), 3) for hour in hours(odoo)],
        "waiting": [max(hour) for hour in hours(simulation.depths)],
        "flight": [round(mean(hour)) for hour in hours(simulation.in_flight)],
    }


def hours(values):
    return [values[begin : begin + plan.HOUR] for begin in range(0, len(values), plan.HOUR)]


def mean(values):
    return sum(values) / len(values)


def save():
    """Simulate the day, and keep it with what it follows from."""
    result = {"fingerprint": fingerprint(), **simulate()}
    RESULT.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    return result


def _a_job(found, name, key):
    """Return a cost of the average job of the plan: a chat's, or one of a bulk."""
    chat, bulk = found[f"{name}_each"][key], found[f"{name}_batch"][key]
    return plan.CHATS * chat + (1 - plan.CHATS) * bulk


def _bytes(rows, tables):
    return sum(sum(rows[table]) for table in tables if table in rows)


def table(measured, day):
    """Return the rows of the page's table: what, and the figure as it is written."""
    found, rest, jobs = measured["costs"], measured["connections"], plan.JOBS
    ask, work = (_a_job(found, name, "postgres_ms") for name in ("ask", "work"))
    runner, wal = _a_job(found, "work", "odoo_ms"), _a_job(found, "ask", "wal_bytes")
    wal += _a_job(found, "work", "wal_bytes")
    upkeep = found["remove"]["postgres_ms"] + found["vacuum"]["postgres_ms"]
    peak = max(plan.CURVE) / mean(plan.CURVE)
    per_second = jobs / plan.DAY * peak / 1000
    postgres_cores, runner_cores = per_second * (ask + work + upkeep), per_second * runner
    statements = _a_job(found, "work", "statements") + _a_job(found, "ask", "statements")
    commits = _a_job(found, "work", "transactions") + _a_job(found, "ask", "transactions")
    removed = found["remove"]["jobs"] / found["remove"]["seconds"]
    kept = _bytes(found["rows_batch"], KEPT_TABLES) * jobs / 1e9
    own = _bytes(found["rows_batch"], JOB_TABLES) * jobs / 1e9
    processes, days = plan.SERVERS * plan.PROCESSES, plan.RETENTION_DAYS
    return [
        ("jobs a second, on average and in the busiest hour",
         f"{jobs / plan.DAY:,.0f} and {jobs / plan.DAY * peak:,.0f}"),
        ("PostgreSQL, processor time of a job", f"{ask + work + upkeep:.1f} ms"),
        ("PostgreSQL, cores in the busiest hour", f"{postgres_cores:.1f}"),
        ("runners, processor time of a job", f"{runner:.1f} ms"),
        ("runners, cores in the busiest hour", f"{runner_cores:.1f}"),
        ("statements and commits of a job", f"{statements:.0f} and {commits:.1f}"),
        ("connections of a process with 50 calls in flight, at most",
         f"{found['sessions']['work']}"),
        ("connections of a server at rest: threaded; with 2 workers and 2 cron workers",
         f"{rest['threaded']['connections']}; {rest['prefork']['connections']}"),
        ("write-ahead log a day", f"{wal * jobs / 1e9:,.0f} GB"),
        ("jobs and attempts, bytes a day", f"{own:,.1f} GB"),
        (f"jobs and attempts, kept {days} days",
         f"{days * jobs / 1e6:,.0f} million of each, {own * days:,.0f} GB"),
        ("messages and threads, bytes a day, which stay", f"{kept:,.1f} GB"),
        ("dead rows of the jobs' table a day",
         f"{found['writes']['llm_generation_job']['updated'] * jobs / 1e6:,.0f} million"),
        ("days until a table is frozen (`autovacuum_freeze_max_age`)",
         f"{FREEZE / (commits * jobs):.0f}"),
        ("days until the ids of the jobs end (2³¹)", f"{IDS / jobs:.0f}"),
        ("jobs removed a second", f"{removed:,.0f}"),
        ("time to remove a day's jobs", f"{jobs / removed / 60:.0f} minutes"),
        (f"jobs a day at which PostgreSQL's {plan.POSTGRES_CORES} cores are {FULL:.0%} busy",
         f"{FULL * plan.POSTGRES_CORES / postgres_cores * jobs / 1e6:.0f} million"),
        (f"jobs a day at which {processes} processes with a runner are {FULL:.0%} busy",
         f"{FULL * processes / runner_cores * jobs / 1e6:.0f} million"),
        ("simulated: completed, failed, not ended at midnight",
         f"{day['completed']:,}, {day['failed']:,}, {day['unended']:,}"),
        ("simulated: attempts, of which refused in the outage",
         f"{day['attempts']:,}, {day['refused']:,}"),
        ("simulated: jobs that the dead server had", f"{day['rescued']:,}"),
        ("simulated: wait of a chat, p50, p95, p99", _waits(day, "chat")),
        ("simulated: wait of a job of a bulk, p50, p95, p99", _waits(day, "bulk")),
        ("simulated: jobs waiting, at most", f"{day['deepest']:,}"),
        ("simulated: calls in flight, at most", f"{day['most_in_flight']:,}"),
        ("simulated: load of PostgreSQL, busiest hour", f"{max(day['postgres']):.0%}"),
        ("simulated: load of the busiest Odoo server, busiest hour", f"{max(day['odoo']):.0%}"),
    ]  # fmt: skip


def _waits(day, kind):
    return ", ".join(
        "< 1 s" if value < 1 else f"{value:,} s" for value in day["waits"][kind].values()
    )


def errors(measured):
    """Return [(run, seconds measured, seconds foretold)]."""
    return [
        (name, run["measured_seconds"], foretell.seconds(measured, name))
        for name, run in measured["runs"].items()
    ]
