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

    def __init__(self, stand, name, instance, table, live, failed, **server_options):
        self.stand = stand
        self.name = name
        self.table = table
        self.live, self.failed = live, failed  # states
        self.server = instance.server(name, name=name, **server_options)

    def call(self, method, *args):
        """Call a method of the model `bench` in the server."""
        return self.server.call("bench", method, *args)

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


def _job_runner(channels):
    """Return what a server is started with to have queue_job's runner, with these channels."""
    return {"args": [peer.LOAD], "env": {"ODOO_QUEUE_JOB_CHANNELS": channels}}


class Stand:
    """Everything that rows measure on. Databases and servers are made when first asked for."""

    def __init__(self, place):
        self.lab = place
        # The settings of a real server: what is committed is on the disk.
        place.cluster.quick = False
        place.restart_postgres()
        self._sides = {}

    @property
    def ours(self):
        return self._side("ours", self._make_ours)

    @property
    def peer(self):
        return self._side("peer", self._make_peer)

    @property
    def bridge(self):
        return self._side("bridge", self._make_bridge)

    def sides(self):
        return {"ours": self.ours, "peer": self.peer}

    def _side(self, name, make):
        if name not in self._sides:
            side = self._sides[name] = make()
            side.start()
        return self._sides[name]

    def _make_ours(self):
        self.database("ours")
        return self._our_side("ours", self.lab.instance)

    def _make_bridge(self):
        step("preparing our bridge to the peer …")
        self.database("lanes")
        instance = peer.beside(self.lab, self.lab.folder / "bridge", extra_addons=[ADDONS])
        instance.create_database("bridge", [*peer.bridges()], template="lanes")
        # Our limits hold there: queue_job gives each provider as much as all lanes have.
        channels = f"root:{sum(LANES.values())}"
        return self._our_side("bridge", instance, **_job_runner(channels))

    def _our_side(self, name, instance, **server_options):
        return Side(
            self,
            name,
            instance,
            table="llm_generation_job",
            live=("queued", "running"),
            failed=("failed", "cancelled"),
            **server_options,
        )

    def _make_peer(self):
        step("preparing the peer …")
        instance = peer.beside(self.lab, self.lab.folder / "peer", extra_addons=[ADDONS])
        instance.create_database("peer", [peer.MODULE, "bench_queue_job"])
        channels = [f"root:{sum(LANES.values())}"]
        channels += [f"root.{lane}:{limit}" for lane, limit in LANES.items()]
        return Side(
            self,
            "peer",
            instance,
            table="queue_job",
            live=("wait_dependencies", "pending", "enqueued", "started"),
            failed=("failed", "cancelled"),
            **_job_runner(",".join(channels)),
        )

    def database(self, name):
        """Make a database: `plain` has what we stand on, any other has us and the lanes."""
        instance = self.lab.instance
        if name in self.lab.cluster.databases():
            return
        step(f"preparing the database {name} …")
        if name == "plain":
            instance.create_database(name, BASIS)
            return
        if name == "lanes":
            self.database("plain")
            instance.create_database(name, ["llm_generate_job", "bench_llm"], template="plain")
            prepare = [f"env['bench']._prepare({lane!r}, {n})" for lane, n in LANES.items()]
            instance.code(name, "\n".join(prepare))
            return
        self.database("lanes")
        instance.create_database(name, template="lanes")

    @contextmanager
    def connect(self, database):
        """Yield a cursor of a plain connection in autocommit mode."""
        connection = psycopg2.connect(
            host=str(self.lab.cluster.socket), port=postgres.PORT, user=postgres.USER,
            dbname=database,
        )  # fmt: skip
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
