"""Draw the simulated day from the standard input (JSON): draw_day.py FILE.png."""

import json
import sys
from pathlib import Path

import matplotlib as mpl

mpl.use("Agg")
import matplotlib.pyplot as plt

STYLE = Path(__file__).resolve().parents[1] / "plain.mplstyle"


def main(target):
    day = json.load(sys.stdin)
    plt.style.use(STYLE)
    figure, (loads, lines) = plt.subplots(2, 1, sharex=True, figsize=(7, 4.8))
    for name, label, colour in (
        ("postgres", "PostgreSQL", "#017e84"),
        ("odoo", "busiest Odoo server", "#714b67"),
    ):
        loads.step(
            range(24), [100 * one for one in day[name]], where="post", label=label, color=colour
        )
    loads.set_ylabel("processors busy (%)")
    lines.step(range(24), day["waiting"], where="post", label="waiting, at most", color="#714b67")
    lines.step(range(24), day["flight"], where="post", label="in flight", color="#017e84")
    lines.set_yscale("symlog", linthresh=10)
    lines.set_ylabel("jobs")
    lines.set_xlabel("hour of the day")
    for axes in (loads, lines):
        axes.set_ylim(0)
        axes.legend()
    figure.tight_layout()
    figure.savefig(target)


if __name__ == "__main__":
    main(sys.argv[1])
