"""The pieces of work whose costs are measured, each by itself, on the same database."""

import time

from lib.say import halt, step

from .meter import Meter

#: Jobs of each piece: enough that a second of somebody else's work does not show.
EACH, BATCH, EXTERNAL = 300, 4000, 1000
#: Calls at once where jobs come in crowds, and how long each takes.
CROWD, SECONDS = 50, 0.05
#: Seconds to watch a runner that has nothing to do.
IDLE = 15.0
#: What a statistic takes to be told by a session that is idle.
TOLD = 11.0
JOBS, ATTEMPTS = "llm_generation_job", "llm_generation_attempt"
LIVE = "SELECT count(*) FROM llm_generation_job WHERE state IN ('queued', 'running')"
LOST = "SELECT count(*) FROM llm_generation_job WHERE state NOT IN ('completed', 'draft')"


class Place:
    """A database with a provider, the servers on it, and what reads their counters."""

    def __init__(self, lab, database, servers):
        self.lab, self.database, self.servers = lab, database, servers
        self.meter = Meter(lab.cluster, database)
        self.meter.rows("CREATE EXTENSION IF NOT EXISTS pg_stat_statements")
        self.provider = self.call("scale_prepare", "chairs")

    def call(self, method, *args):
        """Call a method of the model `bench` in the first server."""
        return self.servers[0].call("bench", method, *args)

    def count(self, statement):
        return self.meter.rows(statement, database=self.database)[0][0]

    def vacuum(self):
        self.meter.rows("VACUUM (ANALYZE)", database=self.database)

    def ask(self, method, count, **inputs):
        """Queue jobs behind a shut queue, and return what that costs a job."""
        self.call("scale_shut", self.provider)
        with self.meter.spent(self.servers) as spent:
            self.call(method, self.provider, count, inputs)
        return per_job(spent, count)

    def work(self, count, limit, watch=None):
        """Open the queue, and return what the jobs cost until the last one has ended.

        :param watch: called, without arguments, while they are at work
        """
        with self.meter.spent(self.servers) as spent:
            self.call("scale_open", self.provider, limit)
            self.wait(watch)
        self.call("scale_shut", self.provider)
        if self.count(LOST):
            halt("some jobs failed: the costs of the others would mean nothing.")
        return per_job(spent, count)

    def wait(self, watch=None, seconds=240):
        """Wait until no job waits or runs."""
        deadline = time.monotonic() + seconds
        while self.count(LIVE):
            if time.monotonic() > deadline:
                halt(f"the jobs did not end in {seconds} s.")
            if watch:
                watch()
            time.sleep(0.1)


def per_job(spent, count):
    """Return what was spent, a job; the time as a whole."""
    return {
        "jobs": count,
        "seconds": round(spent["seconds"], 3),
        "other_cores": round(spent["other_cores"], 2),
        "statements": round(spent["statements"] / count, 2),
        "transactions": round(spent["transactions"] / count, 3),
        "statement_ms": round(1000 * spent["statement_seconds"] / count, 3),
        "wal_bytes": round(spent["wal_bytes"] / count),
        "postgres_ms": round(1000 * spent["postgres_cpu"] / count, 3),
        "odoo_ms": round(1000 * spent["odoo_cpu"] / count, 3),
    }


def measure(place):
    """Return the costs of each piece of work."""
    place.ask("scale_ask_batch", 50)
    place.work(50, CROWD)  # what is only once: plans, caches, code
    costs = {"idle": idle(place)}
    place.vacuum()
    step("one by one: each in a transaction of its own, the next when the last has ended")
    with Growth(place, EACH) as rows:
        costs["ask_each"] = place.ask("scale_ask_each", EACH)
        costs["work_each"] = place.work(EACH, 1)
    costs["rows_each"] = rows
    step("in crowds: thousands in a transaction, many at once")
    sessions = Peak(place.meter)
    before = told(place)
    with Growth(place, BATCH) as rows:
        costs["ask_batch"] = place.ask("scale_ask_batch", BATCH, seconds=SECONDS)
        costs["work_batch"] = place.work(BATCH, CROWD, sessions.look)
    costs["rows_batch"] = rows
    costs["sessions"] = {"rest": sessions.first, "work": sessions.most}
    costs["writes"] = writes(before, told(place), BATCH)
    step("at the provider: submitted, then asked about once")
    costs["ask_external"] = place.ask("scale_ask_batch", EXTERNAL, is_external=True)
    costs["work_external"] = place.work(EXTERNAL, CROWD)
    step("the end: vacuum and clean-up")
    return {**costs, **clean_up(place)}


def idle(place):
    """Return what a runner costs a second that has nothing to do."""
    with place.meter.spent(place.servers) as spent:
        time.sleep(IDLE)
    return {
        "statements": round(spent["statements"] / IDLE, 2),
        "postgres_ms": round(1000 * spent["postgres_cpu"] / IDLE, 2),
        "odoo_ms": round(1000 * spent["odoo_cpu"] / IDLE, 2),
        "wal_bytes": round(spent["wal_bytes"] / IDLE),
    }


class Growth:
    """Gives a dict that has, after the block, the bytes that each table grew by, a job."""

    def __init__(self, place, count):
        self.place, self.count, self.found = place, count, {}

    def __enter__(self):
        self.before = self.place.meter.sizes()
        return self.found

    def __exit__(self, *_exc):
        self.place.vacuum()
        for name, (rows, indexes) in self.place.meter.sizes().items():
            old_rows, old_indexes = self.before[name]
            of_rows, of_indexes = (
                (rows - old_rows) / self.count,
                (indexes - old_indexes) / self.count,
            )
            if of_rows + of_indexes >= 1:
                self.found[name] = [round(of_rows), round(of_indexes)]


class Peak:
    """How many connections Odoo holds: at first, and at most."""

    def __init__(self, meter):
        self.meter = meter
        self.first = self.most = sum(meter.sessions().values())

    def look(self):
        self.most = max(self.most, sum(self.meter.sessions().values()))


def told(place):
    """Return what was written to each table, once all sessions have told."""
    time.sleep(TOLD)
    return place.meter.writes()


def writes(before, after, count):
    """Return {table: writes a job} of the tables that jobs write."""
    names = ("inserted", "updated", "updated_in_page", "deleted")
    found = {}
    for table, counts in after.items():
        old = before.get(table, (0, 0, 0, 0))
        changes = [round((new - was) / count, 2) for new, was in zip(counts, old, strict=True)]
        if max(changes) >= 0.1:
            found[table] = dict(zip(names, changes, strict=True))
    return found


def clean_up(place):
    """Return what it costs to vacuum after jobs have ended, and to remove them."""
    dead = place.count(f"SELECT n_dead_tup FROM pg_stat_user_tables WHERE relname = '{JOBS}'")
    with place.meter.spent(place.servers) as spent:
        place.meter.rows(f"VACUUM {JOBS}, {ATTEMPTS}", database=place.database)
    vacuum = {"dead_jobs": dead, **per_job(spent, EXTERNAL)}
    time.sleep(1.1)  # what has ended in this very second is not older than now
    count = place.count(f"SELECT count(*) FROM {JOBS} WHERE completed_at IS NOT NULL")
    with place.meter.spent(place.servers) as spent:
        removed = place.call("scale_clean_up")
    if removed != count:
        halt(f"{removed} of {count} jobs were removed.")
    removal = per_job(spent, removed)
    with place.meter.spent(place.servers) as spent:
        place.meter.rows(f"VACUUM {JOBS}, {ATTEMPTS}", database=place.database)
    return {"vacuum": vacuum, "remove": removal, "vacuum_removed": per_job(spent, removed)}
