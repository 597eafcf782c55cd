"""A stopped cluster with a fresh Odoo database `tpl`, so that no run has to make one again."""

import shutil

from . import odoo_server, paths, postgres

TEMPLATE = "tpl"
MODULES = ("base", "web", "mail", "bus")


def folder():
    return paths.cache() / "seed"


def build(target):
    cluster = postgres.Cluster(target / "cluster")
    try:
        cluster.initdb()
        cluster.start()
        instance = odoo_server.Instance(cluster, target)
        instance.create_database(TEMPLATE, template="template0")
        instance.install(TEMPLATE, MODULES, log=paths.logs() / "seed.log")
        save(cluster, instance, target)
    finally:
        cluster.remove()
    for leftover in ("cluster", "data"):
        shutil.rmtree(target / leftover, ignore_errors=True)
    (target / "odoo.conf").unlink()


def save(cluster, instance, target):
    """Stop the cluster and keep its databases and files."""
    cluster.stop()
    cluster.save(target / "cluster.tar")
    files = instance.data_dir / "filestore"
    shutil.copytree(files, target / "filestore") if files.is_dir() else None


def plant(cluster, instance_folder, source=None):
    """Fill a new cluster and the folder of its Odoo from a seed, and start the cluster."""
    source = source or folder()
    cluster.restore(source / "cluster.tar")
    if (source / "filestore").is_dir():
        shutil.copytree(
            source / "filestore", instance_folder / "data" / "filestore", dirs_exist_ok=True
        )
    cluster.start()
