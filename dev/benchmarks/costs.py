"""Measure what a job costs PostgreSQL and Odoo, from the question to its removal: make costs.

Writes dev/benchmarks/costs.json, from which the simulation and docs/scale.md take all they know.
"""

import datetime
import json
import os
import platform
import time
from pathlib import Path

from capacity import meter, phases, runs
from lib.lab import Lab
from lib.say import run_main, say, stage

import odoo.release

HERE = Path(__file__).resolve().parent
COSTS = HERE / "costs.json"


def main():
    with Lab("costs", extra_addons=[HERE / "addons"]) as lab:
        # The settings of a real server: what is committed is on the disk.
        lab.cluster.quick = False
        meter.preload(lab.cluster)
        lab.restart_postgres()
        with stage("a database"):
            lab.instance.create_database("costs", ["llm_generate_job", "bench_scale"])
            lab.instance.create_database("runs", template="costs")
        found = {"machine": _machine(lab)}
        with stage("what each piece of work costs"):
            server = lab.instance.server("costs", name="costs").start()
            found["costs"] = phases.measure(phases.Place(lab, "costs", [server]))
            server.stop()
        with stage("runs to be foretold"):
            servers = [lab.instance.server("runs", name=f"runs{n}").start() for n in (1, 2)]
            found["runs"] = runs.run(lab, "runs", servers)
            for server in servers:
                server.stop()
        with stage("connections"):
            found["connections"] = _connections(lab)
    COSTS.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    say(json.dumps(found, indent=1))
    say(f"\nwritten to dev/benchmarks/{COSTS.name}; make scale brings docs/scale.md up to it")
    return 0


def _machine(lab):
    return {
        "date": datetime.datetime.now(tz=datetime.UTC).date().isoformat(),
        "cores": os.cpu_count(),
        "python": platform.python_version(),
        "postgresql": lab.cluster.sql("SHOW server_version"),
        "odoo": odoo.release.version,
    }


def _connections(lab):
    """Return how many connections a server holds that has been asked once and has no work."""
    found = {}
    counter = meter.Meter(lab.cluster, "runs")
    for name, options in {
        "threaded": {"workers": 0, "cron_threads": 1},
        "prefork": {"workers": 2, "cron_threads": 2},
    }.items():
        server = lab.instance.server(
            "runs", name=name, args=["--limit-memory-soft=0", "--limit-memory-hard=0"], **options
        ).start()
        server.call("bench", "scale_start_runner")
        time.sleep(phases.IDLE)
        sessions = counter.sessions()
        found[name] = {**options, "processes": len(sessions), "connections": sum(sessions.values())}
        server.stop()
    return found


if __name__ == "__main__":
    run_main(main)
