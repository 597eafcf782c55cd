"""OCA's queue_job, for our bridge to it and for the benchmark; no other Odoo here finds it.

What runs on queue_job has an Odoo of its own, on databases of its own: in all others Odoo has
never heard of it.
"""

import os
import shutil

from . import environments, modules, odoo_server

MODULE = modules.APART
#: What a server is started with so that queue_job's runner lives in it.
LOAD = "--load=base,rpc,web,queue_job"
STEP = environments.apart("queue-job", "queue_job")


_DELEGATE = """\
env["ir.config_parameter"].set_param("llm_generate_job.executor", "queue_job")
env["llm.generation.queue"].search([]).executor = "queue_job"
"""


def addons():
    """Return the folder with queue_job and its tests."""
    return STEP.folder / "odoo" / "addons"


def version():
    """Return the version of queue_job that is installed."""
    (folder,) = STEP.folder.glob(f"odoo_addon_{MODULE}-*.dist-info")
    return folder.name.removesuffix(".dist-info").partition("-")[2]


def bridges():
    """Return our modules that need queue_job, as {module: folder}."""
    return {
        name: folder
        for name, folder in modules.folders().items()
        if MODULE in modules.manifest(folder)["depends"]
    }


def delegate(instance, database):
    """Have queue_job execute the jobs of all queues of a database, of those to come, too."""
    instance.code(database, _DELEGATE)


class Instance(odoo_server.Instance):
    """An Odoo that also finds queue_job and the libraries that it needs."""

    def __init__(self, cluster, folder, *, extra_addons=(), **options):
        super().__init__(cluster, folder, extra_addons=[addons(), *extra_addons], **options)

    @property
    def environment(self):
        env = super().environment
        return {**env, "PYTHONPATH": os.pathsep.join((env["PYTHONPATH"], str(STEP.folder)))}


def beside(lab, folder, *, extra_addons=()):
    """Return such an Odoo on the cluster of a lab, with the files of its databases so far."""
    instance = Instance(lab.cluster, folder, extra_addons=extra_addons)
    files = lab.instance.data_dir / "filestore"
    if files.is_dir():
        shutil.copytree(files, instance.data_dir / "filestore", dirs_exist_ok=True)
    return instance
