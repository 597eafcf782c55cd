"""The test stand: one PostgreSQL, our Odoo and the peer's side by side."""

import time
from contextlib import contextmanager
from pathlib import Path

import psycopg2
from lib import lab, peer, postgres
from lib.say import halt, step

ADDONS = Path(__file__).resolve().parent / "addons"
#: Jobs at once, the same for both: {lane: limit}.
LANES = {"ten": 10, "fifty": 50}
#: What our addon stands on: Odoo "without us".
BASIS = ["llm_thread", "llm_tool"]
#: Seconds after its first answer in which a fresh server comes to rest.
REST = 1.0


class Side:
    """One of the two: a database, the server on it, and what its jobs look like."""

    def __init__(self, stand, name, instance, table, live, failed, channels=None):
        self.model = "bench.llm" if table == "llm_generation_job" else "bench.queue_job"
        self.stand = stand
        self.name = name
        self.table = table
        self.live, self.failed = live, failed  # states
        # What has queue_job's runner in it is started with the channels of that.
        runner = {"args": [peer.LOAD], "env": {"ODOO_QUEUE_JOB_CHANNELS": channels}}
        self.server = instance.server(name, name=name, **(runner if channels else {}))

    def call(self, method, *args):
        """Call a method of its model of the benchmark in the server."""
        return self.server.call(self.model, method, *args)

    def restart(self):
        """Have a server in which nothing has run yet."""
        self.server.stop()
        self.start()

    def start(self):
        self.server.start()
        self.server.call("res.partner", "search_count", [])
        time.sleep(REST)

    @property
    def memory(self):
        """Resident memory of the server, in MB."""
        return resident(self.server)

    def wait_finished(self, seconds=300):
        """Return when (ns) the last job ended."""
        deadline = time.monotonic() + seconds
        with self.stand.connect(self.name) as cursor:
            while self._has(cursor, self.live):
                if time.monotonic() > deadline:
                    halt(f"the jobs of {self.name} did not end in {seconds} s.")
                time.sleep(0.01)
            ended = time.time_ns()
            if self._has(cursor, self.failed):
                halt(f"some jobs of {self.name} failed: its figures would mean nothing.")
        return ended

    def _has(self, cursor, states):
        # One look into the index for each state: a scan of the table, a hundred times a second,
        # would be part of what is measured.
        looks = (f"EXISTS (SELECT FROM {self.table} WHERE state = '{state}')" for state in states)
        cursor.execute(f"SELECT {' OR '.join(looks)}")
        return cursor.fetchone()[0]

    def drain(self, lane, count, seconds=0.0):
        """Queue jobs and return the seconds to queue them, and from the commit to the last end."""
        queued = self.call("enqueue", lane, count, seconds)
        return queued["seconds"], (self.wait_finished() - queued["committed"]) / 1e9


def resident(server):
    """Return the resident memory of a server's process in MB."""
    status = Path(f"/proc/{server.process.pid}/status").read_text(encoding="utf-8")
    (line,) = (line for line in status.splitlines() if line.startswith("VmRSS:"))
    return int(line.split()[1]) / 1024


class Stand:
    """Everything that rows measure on. Databases and servers are made when first asked for."""

    def __init__(self, place):
        self.lab = place
        # The settings of a real server: what is committed is on the disk.
        place.cluster.quick = False
        place.restart_postgres()
        self._sides = {}

    ours = property(lambda self: self._side("ours"))
    batch = property(lambda self: self._side("batch"))
    peer = property(lambda self: self._side("peer"))
    bridge = property(lambda self: self._side("bridge"))

    def interleave(self, number, ours="ours"):
        """Return both sides, as (name, side), each being the first in every other round."""
        sides = [(name, getattr(self, name)) for name in (ours, "peer")]
        return sides[::-1] if number % 2 else sides

    def _side(self, name):
        if name not in self._sides:
            self._sides[name] = getattr(self, f"_make_{name}")()
            self._sides[name].start()
        return self._sides[name]

    def _make_ours(self):
        self.database("ours")
        return self._our_side("ours", self.lab.instance)

    def _make_batch(self):
        """Make a side with what asks thousands of questions in one call."""
        self.database("lanes")
        self.lab.instance.create_database("batch", ["llm_generate_job_batch"], template="lanes")
        return self._our_side("batch", self.lab.instance)

    def _make_bridge(self):
        step("preparing our bridge to the peer …")
        self.database("lanes")
        instance = peer.beside(self.lab, self.lab.folder / "bridge", extra_addons=[ADDONS])
        instance.create_database("bridge", [*peer.bridges()], template="lanes")
        peer.delegate(instance, "bridge")
        # Our limits hold there: queue_job gives each provider as much as all lanes have.
        return self._our_side("bridge", instance, channels=f"root:{sum(LANES.values())}")

    def _our_side(self, name, instance, **options):
        live, failed = ("queued", "running"), ("failed", "cancelled")
        return Side(self, name, instance, "llm_generation_job", live, failed, **options)

    def _make_peer(self):
        step("preparing the peer …")
        instance = peer.beside(self.lab, self.lab.folder / "peer", extra_addons=[ADDONS])
        instance.create_database("peer", [peer.MODULE, "bench"])
        channels = [f"root:{sum(LANES.values())}"]
        channels += [f"root.{lane}:{limit}" for lane, limit in LANES.items()]
        live = ("wait_dependencies", "pending", "enqueued", "started")
        failed = ("failed", "cancelled")
        return Side(self, "peer", instance, "queue_job", live, failed, channels=",".join(channels))

    def database(self, name):
        """Make a database: `plain` has what we stand on, any other has us and the lanes."""
        instance = self.lab.instance
        if name in self.lab.cluster.databases():
            return
        step(f"preparing the database {name} …")
        if name == "plain":
            instance.create_database(name, BASIS)
        elif name == "lanes":
            self.database("plain")
            instance.create_database(name, ["llm_generate_job", "bench"], template="plain")
            prepare = [f"env['bench.llm']._prepare({lane!r}, {n})" for lane, n in LANES.items()]
            instance.code(name, "\n".join(prepare))
        else:
            self.database("lanes")
            instance.create_database(name, template="lanes")

    def conninfo(self, database):
        """Return what a client of PostgreSQL needs, whoever's it is."""
        socket = self.lab.cluster.socket
        return f"host={socket} port={postgres.PORT} user={postgres.USER} dbname={database}"

    @contextmanager
    def connect(self, database):
        """Yield a cursor of a plain connection in autocommit mode."""
        connection = psycopg2.connect(self.conninfo(database))
        connection.set_session(autocommit=True)
        try:
            with connection.cursor() as cursor:
                yield cursor
        finally:
            connection.close()


@contextmanager
def open_stand():
    with lab.Lab("bench", extra_addons=[ADDONS]) as place:
        yield Stand(place)
