"""A place for one experiment: a cluster and an Odoo of its own, gone at the end.

    with Lab("capacity") as lab:
        lab.instance.create_database("race", ["llm_generate_job"])
        server = lab.instance.server("race").start()

LLM_SEED names a folder with the databases to begin from (see seed.py), the fresh one by default.
"""

import fcntl
import os
import shutil
import tempfile
from contextlib import contextmanager
from pathlib import Path

from . import modules, odoo_server, paths, postgres, processes, seed


def runs():
    return paths.state() / "runs"


class Lab:
    instance_class = odoo_server.Instance

    def __init__(self, name, *, extra_addons=(), source=None):
        self.name = name
        self.extra_addons = extra_addons
        self.source = Path(source or os.environ.get("LLM_SEED") or seed.folder())

    def __enter__(self):
        runs().mkdir(parents=True, exist_ok=True)
        self.folder = Path(tempfile.mkdtemp(prefix=f"{self.name}-", dir=runs()))
        self.owner = _own(self.folder)
        processes.mark(self.folder)
        self.cluster = postgres.Cluster(self.folder / "cluster")
        try:
            self.instance = self.instance_class(
                self.cluster, self.folder, extra_addons=self.extra_addons
            )
            seed.plant(self.cluster, self.folder, self.source)
        except BaseException:
            self.__exit__()
            raise
        return self

    @property
    def kept_logs(self):
        return paths.state() / "logs" / self.name

    def __exit__(self, *_exc):
        processes.end_marked(self.folder)
        shutil.rmtree(self.kept_logs, ignore_errors=True)
        self.kept_logs.mkdir(parents=True)
        for pattern in ("*.log", "*.png"):  # the pictures are of browser tests that failed
            for path in self.folder.rglob(pattern):
                shutil.copyfile(path, self.kept_logs / path.name)
        self.cluster.remove()
        shutil.rmtree(self.folder, ignore_errors=True)

    def stack_database(self, name):
        """Make a database that has all our modules."""
        ready = "stack" in self.cluster.databases()
        self.instance.create_database(
            name,
            () if ready else modules.installable(self.instance),
            template="stack" if ready else "tpl",
        )
        return name

    def restart_postgres(self, signum=None):
        """Restart the database server; with SIGQUIT, as after a crash."""
        self.cluster.restart(*([signum] if signum else []))


def _own(folder):
    """Return a file that is locked as long as this process has it, None where another one has."""
    try:
        file = (folder / "owner").open("w")
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:  # it is locked, or the folder is just being removed
        return None
    return file


def sweep():
    """End and remove what runs of this checkout left behind when they were killed."""
    for folder in runs().glob("*/"):
        if _own(folder):
            processes.end_marked(folder)
            shutil.rmtree(folder, ignore_errors=True)
    postgres.sweep()


@contextmanager
def environment(lab, database, user=1):
    """Yield an Environment of Odoo in this very process (venv of Odoo only); commits at the end."""
    import odoo  # noqa: PLC0415 - there in the environment of Odoo only
    from odoo import api  # noqa: PLC0415
    from odoo.modules.registry import Registry  # noqa: PLC0415
    from odoo.tools import config  # noqa: PLC0415

    if not getattr(odoo, "_lab_ready", False):
        config.parse_config(["-c", str(lab.instance.conf), "--log-level=warn"], setup_logging=True)
        odoo._lab_ready = True
    with Registry(database).check_signaling().cursor() as cr:
        yield api.Environment(cr, user, {})


def insist(lab, database, act, user=1):
    """Return `act(env)`, called as a worker of Odoo does: again after a conflict; it commits."""
    with environment(lab, database, user) as env:
        from odoo.service.model import retrying  # noqa: PLC0415 - there now

        return retrying(lambda: act(env), env)
