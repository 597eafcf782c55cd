"""What a simulation is given: who asks, who answers, on which machines, and what work costs."""

import json
from dataclasses import dataclass
from pathlib import Path

COSTS = Path(__file__).resolve().parents[1] / "costs.json"
#: Rounds a second in which a busy runner claims and stores at most: it rests up to 20 ms after
#: each, see runner/pace.py. What comes more often than that comes in crowds.
ROUNDS = 25.0


@dataclass(frozen=True)
class Work:
    """Processor seconds of a job: what each round costs, whatever its jobs, and what each job."""

    round: float
    job: float

    @classmethod
    def between(cls, alone, crowd, rate):
        """Return the work that costs `alone` for a job by itself, `crowd` at `rate` jobs/s."""
        in_rounds = max(0.0, alone - crowd) / (1 - min(1.0, ROUNDS / max(rate, 2 * ROUNDS)))
        return cls(in_rounds, max(0.0, alone - in_rounds))

    def at(self, rate):
        """Return the seconds of a job in a process that has `rate` jobs a second."""
        return self.job + self.round * min(1.0, ROUNDS / rate if rate else 1.0)


@dataclass(frozen=True)
class Costs:
    """Processor seconds, of PostgreSQL and of the runners, as they were measured."""

    ask_chat: float
    ask_batch: float
    postgres: Work
    runner: Work
    poll: float
    remove: float
    vacuum: float
    idle_postgres: float
    idle_runner: float


def read():
    """Return all that was measured, as it is on file."""
    return json.loads(COSTS.read_text(encoding="utf-8"))


def costs(measured):
    """Return the `Costs` of what `read()` returns."""
    found = measured["costs"]
    each, crowd = found["work_each"], found["work_batch"]
    rate = crowd["jobs"] / crowd["seconds"]
    polled = found["work_external"]["postgres_ms"] - crowd["postgres_ms"]
    vacuum = found["vacuum"], found["vacuum_removed"]
    return Costs(
        ask_chat=found["ask_each"]["postgres_ms"] / 1000,
        ask_batch=found["ask_batch"]["postgres_ms"] / 1000,
        postgres=Work.between(each["postgres_ms"] / 1000, crowd["postgres_ms"] / 1000, rate),
        runner=Work.between(each["odoo_ms"] / 1000, crowd["odoo_ms"] / 1000, rate),
        poll=max(0.0, polled) / 1000,
        remove=found["remove"]["postgres_ms"] / 1000,
        vacuum=sum(one["postgres_ms"] for one in vacuum) / 1000,
        idle_postgres=found["idle"]["postgres_ms"] / 1000,
        idle_runner=found["idle"]["odoo_ms"] / 1000,
    )


@dataclass(frozen=True)
class Provider:
    """Who answers.

    :param float share: of all jobs
    :param int limit: jobs at once
    :param float mean: seconds of a call
    :param float spread: sigma of the logarithm of a call's length; 0 for calls of one length
    :param float polls: questions that a job costs after it was submitted
    """

    name: str
    share: float
    limit: int
    mean: float
    spread: float = 0.0
    polls: float = 0.0


@dataclass(frozen=True)
class Server:
    """An Odoo server: its processes with a runner, and the slots of each."""

    processes: int
    slots: int
    host: str


@dataclass(frozen=True)
class Trouble:
    """Seconds of the run in which a provider (or a server, by its number) is not there."""

    what: int
    begin: float
    length: float


@dataclass(frozen=True)
class Setup:
    """A run to simulate.

    :param float tick: seconds of a step, and so the resolution of what is told of waits
    :param dict hosts: {name: cores}; PostgreSQL is on the host `postgres`
    :param outages: `Trouble` of providers, which refuse each call as overloaded
    :param losses: `Trouble` of servers, which die with all they do
    """

    providers: tuple
    servers: tuple
    hosts: dict
    tick: float = 1.0
    outages: tuple = ()
    losses: tuple = ()
    postgres: str = "postgres"
