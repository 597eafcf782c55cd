"""Draw lines "jobs,p50,p95" from the standard input: plot.py FILE.png."""

import sys
from pathlib import Path

import matplotlib as mpl

mpl.use("Agg")
import matplotlib.pyplot as plt

STYLE = Path(__file__).with_name("plain.mplstyle")


def main(target):
    points = [tuple(map(float, line.split(","))) for line in sys.stdin]
    places = range(len(points))
    plt.style.use(STYLE)
    figure, axes = plt.subplots(figsize=(7, 3.6))
    for column, label, color in ((1, "median", "#017e84"), (2, "p95", "#714b67")):
        axes.plot(places, [point[column] for point in points], "o-", label=label, color=color)
    axes.set_xticks(places, [f"{int(point[0]):,}" for point in points])
    axes.set_ylim(0, 1.5 * max(point[2] for point in points))
    axes.set_xlabel("jobs in the table, one in eleven of them waiting")
    axes.set_ylabel("claim of 10 jobs (ms)")
    axes.legend()
    figure.tight_layout()
    figure.savefig(target)


if __name__ == "__main__":
    main(sys.argv[1])
