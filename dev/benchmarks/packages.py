"""What the benchmark needs besides Odoo: the peer, and a library that draws."""

import sys
from pathlib import Path

from lib import environments, peer, steps

_PINS = Path(__file__).resolve().parent / "requirements-plot.txt"
PLOT = steps.Step(
    "bench-plot",
    "matplotlib",
    (_PINS.read_text(), sys.version_info[:2]),
    environments.build_apart("bench-plot", _PINS),
)


def install():
    """Fetch both, once, into folders of their own in the cache."""
    steps.run_steps([peer.STEP, PLOT])
