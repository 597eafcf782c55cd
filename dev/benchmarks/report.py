"""Rows of the result: medians, ratios, and whether the bar was reached."""

import json
import os
import platform
import re
import statistics
import traceback
from dataclasses import asdict, dataclass
from pathlib import Path

from lib.say import say

RESULTS = Path(__file__).resolve().parent / "results.json"
_LINE = "{:<{width}}  {:>10}  {:>10}  {:>8}  {:<22}  {}"


@dataclass(frozen=True)
class Row:
    """One line of the table. `ratio` is how many times better we are than the peer."""

    name: str
    ours: float
    peer: float | None
    ratio: float | None
    bar: str
    ok: bool


def row(
    name, ours, peer=None, *, better="lower", at_most=None, at_least=None, times=None, beats=False
):
    """Judge one figure.

    :param ours: our figures of all rounds, or one
    :param peer: the peer's, None where it has nothing to compare
    :param better: whether the `lower` or the `higher` figure is better
    :param times: how many times better than the peer ours has to be
    :param beats: whether ours has to be better than the peer's
    """
    ours, peer = _median(ours), None if peer is None else _median(peer)
    ratio = None
    if peer is not None and min(ours, peer) > 0:  # what is below nothing is in the noise
        ratio = ours / peer if better == "higher" else peer / ours
    checks = [
        (at_most is not None, f"<= {at_most}", lambda: ours <= at_most),
        (at_least is not None, f">= {at_least}", lambda: ours >= at_least),
        (times is not None, f"ratio >= {times}", lambda: ratio >= times),
        (beats, "better than the peer", lambda: ours > peer if better == "higher" else ours < peer),
    ]
    wanted = [(text, check) for used, text, check in checks if used]
    return Row(
        name=name,
        ours=round(ours, 3),
        peer=None if peer is None else round(peer, 3),
        ratio=None if ratio is None else round(ratio, 2),
        bar=", ".join(text for text, _check in wanted),
        ok=all(check() for _text, check in wanted),
    )


def _median(figures):
    return float(statistics.median(figures) if isinstance(figures, list) else figures)


def both(rounds, what, ours="ours"):
    """Return the figures of all rounds, ours and the peer's."""
    return [[figures[side][what] for figures in rounds] for side in (ours, "peer")]


def quantile(samples, share):
    """Return the sample below which `share` of them lie."""
    ordered = sorted(samples)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]


def measure_all(families, measure, keep_rows):
    """Measure family by family, and keep the rows after each.

    :return: the rows, and the names of the families that broke off
    """
    table, broken = [], []
    for family in families:
        try:
            table += measure(family)
        except Exception:  # noqa: BLE001 - the other families have their turn
            say(traceback.format_exc())
            broken += family.NAMES
        keep_rows(table)
    return table, broken


def show(rows):
    """Print the table."""
    width = max((len(one.name) for one in rows), default=0)
    say("\n" + _LINE.format("", "ours", "peer", "ratio", "bar", "", width=width).rstrip())
    for one in rows:
        say(_LINE.format(
            one.name,
            f"{one.ours:,.2f}",
            "-" if one.peer is None else f"{one.peer:,.2f}",
            "-" if one.ratio is None else f"{one.ratio:,.1f} x",
            one.bar,
            "ok" if one.ok else "NOT OK",
            width=width,
        ))  # fmt: skip


def save(rows, path=RESULTS):
    """Write the results to a file, by default the one that is kept with the project."""
    path.write_text(json.dumps([asdict(one) for one in rows], indent=2) + "\n")


def machine(*versions):
    """Return what the figures depend on, in a line or two."""
    cpu = re.search(r"model name\s*: (.*)", Path("/proc/cpuinfo").read_text(encoding="utf-8"))
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    return ", ".join((
        f"{os.cpu_count()} x {cpu[1] if cpu else platform.machine()}",
        f"{memory:.0f} GB",
        f"Linux {platform.release()}",
        f"Python {platform.python_version()}",
        *versions,
    ))  # fmt: skip
