"""What the benchmark needs besides Odoo: the peer, and a library that draws."""

import sys
from pathlib import Path

from lib import commands, peer, steps

_PINS = Path(__file__).resolve().parent / "requirements-plot.txt"


def _build(folder):
    commands.run(
        [
            *(sys.executable, "-m", "pip", "install", "--disable-pip-version-check"),
            *("--no-input", "--retries", "3", "--no-compile", "--no-deps"),
            *("--target", folder, "-r", _PINS),
        ],
        f"installing the packages of {_PINS.name}",
        name="bench-plot",
    )


PLOT = steps.Step("bench-plot", "matplotlib", (_PINS.read_text(), sys.version_info[:2]), _build)


def install():
    """Fetch both, once, into folders of their own in the cache."""
    steps.run_steps([peer.STEP, PLOT])
