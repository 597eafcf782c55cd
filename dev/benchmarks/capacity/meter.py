"""What work costs: statements, write-ahead log, and processor time by process."""

import os
import time
from pathlib import Path

import psycopg2
from lib import postgres
from lib.say import halt

TICKS = os.sysconf("SC_CLK_TCK")

#: A transaction that Odoo commits is one COMMIT; what the meter itself asks is not counted.
STATEMENTS = """
    SELECT COALESCE(sum(s.calls), 0), COALESCE(sum(s.calls) FILTER (WHERE s.query = 'COMMIT'), 0),
        COALESCE(sum(s.total_exec_time), 0)
    FROM pg_stat_statements s JOIN pg_database d ON d.oid = s.dbid
    WHERE d.datname = %s
"""
WAL = "SELECT pg_wal_lsn_diff(pg_current_wal_insert_lsn(), '0/0')"
SIZES = """
    SELECT c.relname, pg_table_size(c.oid), pg_indexes_size(c.oid)
    FROM pg_class c WHERE c.relkind = 'r' AND c.relnamespace = 'public'::regnamespace
"""
WRITES = """
    SELECT relname, n_tup_ins, n_tup_upd, n_tup_hot_upd, n_tup_del
    FROM pg_stat_user_tables
"""


def processor_seconds(pid):
    """Return the processor time of a process, and of its children that have ended."""
    text = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8")
    return sum(int(field) for field in text.rpartition(")")[2].split()[11:15]) / TICKS


def tree_seconds(pid):
    """Return the processor time of a process and all its children."""
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text(encoding="utf-8").split()
    total = processor_seconds(pid)
    for child in children:
        try:
            total += processor_seconds(child)
        except FileNotFoundError:
            continue  # it has ended, and is counted with its parent from now on
    return total


def machine_seconds():
    """Return the processor time that the whole machine has spent working."""
    text = Path("/proc/stat").read_text(encoding="utf-8")
    user, nice, system, _idle, _wait, interrupt, soft, *_rest = map(int, text.split()[1:9])
    return (user + nice + system + interrupt + soft) / TICKS


class Meter:
    """Reads the counters of a cluster, and of the servers on one of its databases."""

    def __init__(self, cluster, database):
        self.cluster = cluster
        self.database = database
        self._connections = {}

    def rows(self, statement, params=None, database=None):
        """Return the rows of a statement, by default of the database `postgres`."""
        database = database or "postgres"
        if database not in self._connections:
            connection = psycopg2.connect(
                host=str(self.cluster.socket), port=postgres.PORT, user=postgres.USER,
                dbname=database, application_name="meter",
            )  # fmt: skip
            connection.set_session(autocommit=True)
            self._connections[database] = connection
        with self._connections[database].cursor() as cursor:
            cursor.execute(statement, params)
            return cursor.fetchall() if cursor.description else []

    def counters(self, servers):
        """Return all counters now."""
        [(calls, commits, spent)] = self.rows(STATEMENTS, [self.database])
        [(wal,)] = self.rows(WAL)
        return {
            "seconds": time.monotonic(),
            "statements": int(calls),
            "transactions": int(commits),
            "statement_seconds": float(spent) / 1000,
            "wal_bytes": int(wal),
            "postgres_cpu": tree_seconds(self.cluster.process.pid),
            "odoo_cpu": sum(tree_seconds(server.process.pid) for server in servers),
            "machine_cpu": machine_seconds(),
        }

    def spent(self, servers):
        """Return a context manager whose dict has, after the block, what was spent in it."""
        return Spent(self, servers)

    def sizes(self):
        """Return {table: (bytes of its rows, bytes of its indexes)}."""
        return {name: sizes for name, *sizes in self.rows(SIZES, database=self.database)}

    def writes(self):
        """Return {table: (inserted, updated, of which within the page, deleted)}."""
        return {name: counts for name, *counts in self.rows(WRITES, database=self.database)}

    def sessions(self):
        """Return how many connections each process of Odoo holds: {name: count}."""
        rows = self.rows(
            "SELECT application_name, count(*) FROM pg_stat_activity"
            " WHERE application_name LIKE 'odoo-%' GROUP BY 1"
        )
        return dict(rows)

    def close(self):
        for connection in self._connections.values():
            connection.close()


class Spent:
    """See `Meter.spent()`."""

    def __init__(self, meter, servers):
        self.meter, self.servers, self.found = meter, servers, {}

    def __enter__(self):
        self.meter.rows("CHECKPOINT")  # the first write to a page after one is logged whole
        self.begin = self.meter.counters(self.servers)
        return self.found

    def __exit__(self, *_exc):
        end = self.meter.counters(self.servers)
        found = self.found
        found.update({name: end[name] - self.begin[name] for name in end})
        ours = found["postgres_cpu"] + found["odoo_cpu"]
        found["other_cores"] = max(0.0, found.pop("machine_cpu") - ours) / found["seconds"]


def preload(cluster):
    """Have the cluster count statements from its next start on."""
    available = "SELECT count(*) FROM pg_available_extensions WHERE name = 'pg_stat_statements'"
    if cluster.sql(available) != "1":
        halt("PostgreSQL has no extension pg_stat_statements: install its contrib package.")
    with (cluster.data / "postgresql.conf").open("a", encoding="utf-8") as file:
        file.write("shared_preload_libraries = 'pg_stat_statements'\n")
        file.write("pg_stat_statements.max = 10000\n")
