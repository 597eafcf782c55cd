"""What the benchmark needs besides Odoo: the peer, and a library that draws."""

import sys
from pathlib import Path

from lib import commands, steps

HERE = Path(__file__).resolve().parent


def _step(name, title, requirements, *options):
    pins = HERE / requirements

    def build(folder):
        commands.run(
            [
                *(sys.executable, "-m", "pip", "install", "--disable-pip-version-check"),
                *("--no-input", "--retries", "3", "--no-compile", "--no-deps"),
                *("--target", folder, "-r", pins),
            ],
            f"installing the packages of {requirements}",
            name=name,
        )

    return steps.Step(name, title, (pins.read_text(), sys.version_info[:2]), build)


PEER = _step("bench-peer", "queue_job", "requirements.txt")
PLOT = _step("bench-plot", "matplotlib", "requirements-plot.txt")


def install():
    """Fetch both, once, into folders of their own in the cache."""
    steps.run_steps([PEER, PLOT])


def peer_version():
    """Return the version of queue_job that is measured."""
    (folder,) = PEER.folder.glob("odoo_addon_queue_job-*.dist-info")
    return folder.name.removesuffix(".dist-info").partition("-")[2]


def peer_addons():
    return PEER.folder / "odoo" / "addons"
