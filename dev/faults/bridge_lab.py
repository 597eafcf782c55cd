"""A laboratory whose servers have queue_job's job runner, and our bridge to it."""

import sys
from pathlib import Path

from fault_lab import FaultLab
from lib import peer


class BridgeLab(FaultLab):
    instance_class = peer.Instance

    def __init__(self, name, *, at_once):
        """Take how many records queue_job runs at once: the capacity of its root channel."""
        super().__init__(name)
        self.channels = f"root:{at_once}"
        sys.path.append(str(peer.STEP.folder))  # lab.environment() has Odoo in this process

    def add_database(self, name):
        made = super().add_database(name)
        self.instance.install(name, [*peer.bridges()])
        peer.delegate(self.instance, name)
        return made

    def start_servers(self, *args, env=None, **options):
        options["args"] = (peer.LOAD, *options.get("args", ()))
        env = {**(env or {}), "ODOO_QUEUE_JOB_CHANNELS": self.channels}
        return super().start_servers(*args, env=env, **options)

    def runner_pids(self, database=None):
        """Return the processes that have a runner of ours: that claims, and executes nothing."""
        return self._pids("NOT LIKE", database)

    def worker_pids(self, database=None):
        """Return the processes whose workers of queue_job have executed jobs of ours."""
        return self._pids("LIKE", database)

    def _pids(self, operator, database):
        found = self.rows(
            "SELECT split_part(split_part(name, ':', 2), ' ', 1)::int AS pid"
            f" FROM llm_generation_runner WHERE name {operator} '%queue_job'",
            database,
        )
        return {row["pid"] for row in found if Path(f"/proc/{row['pid']}").exists()}
