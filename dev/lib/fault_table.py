"""The table of the fault scripts: what was broken, and what became of the jobs.

Each script hands over its rows, one for each fault, in a file that LLM_FAULT_TABLE names; whoever
ran the scripts prints them together.
"""

import json
import os
from dataclasses import asdict, dataclass
from pathlib import Path

from .say import say, step

VARIABLE = "LLM_FAULT_TABLE"
HEADS = ("fault", "jobs", "lost", "duplicated", "stuck", "recovered", "why submitted again")


@dataclass
class Row:
    """What became of the jobs that met a fault.

    :param str script: which script says so
    :param str fault: what happened to them, in a few words
    :param int jobs: how many they were
    :param int lost: those that are gone, or ended otherwise than they had to
    :param int duplicated: submissions of what the provider had been asked for before
    :param int unexplained: those of them that no attempt of the job explains
    :param int stuck: those that still wait, run or would be tried again
    :param float recovered: seconds from the end of the fault to the end of the last job
    :param str why: what explains the duplicates
    """

    script: str
    fault: str
    jobs: int
    lost: int
    duplicated: int
    unexplained: int
    stuck: int
    recovered: float
    why: str = ""

    @property
    def is_good(self):
        """Whether nothing was lost, stuck or submitted again without a reason."""
        return self.jobs > 0 and not (self.lost or self.stuck or self.unexplained)


def hand_over(row):
    """Note a row for the table."""
    step(f"{row.fault}: {', '.join(_cells(row)[1:])}".rstrip(", "))
    if path := os.environ.get(VARIABLE):
        with Path(path).open("a", encoding="utf-8") as file:
            file.write(json.dumps(asdict(row)) + "\n")


def read(path):
    """Return the rows of a file, oldest first."""
    lines = path.read_text().splitlines() if path.exists() else []
    return [Row(**json.loads(line)) for line in lines]


def render(rows):
    """Return the table as text."""
    cells = [HEADS, *map(_plain_cells, rows)]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    lines = [
        "  ".join(
            text.ljust(width) if place in {0, len(HEADS) - 1} else text.rjust(width)
            for place, (text, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in cells
    ]
    return "\n".join([lines[0], "-" * max(map(len, lines)), *lines[1:]])


def check(tally, rows, scripts):
    """Print the table, and hold each row to: 0 lost, 0 stuck, no duplicate without a reason.

    :param scripts: the names of the scripts, each of which has at least one row
    """
    say(f"\n{render(rows)}\n")
    for row in rows:
        tally.check(row.is_good, f"{row.script}, {row.fault}: nothing lost, stuck or unexplained")
    missing = sorted(set(scripts) - {row.script for row in rows})
    tally.check(not missing, "each fault script has its row", ", ".join(missing))


def _plain_cells(row):
    numbers = (row.jobs, row.lost, row.duplicated, row.stuck)
    reasons = [row.why, f"{row.unexplained} UNEXPLAINED" if row.unexplained else ""]
    why = ", ".join(filter(None, reasons))
    return (row.fault, *map(str, numbers), f"{row.recovered:.1f} s", why)


def _cells(row):
    """Return the cells with their heads, for a line of its own."""
    pairs = zip(HEADS, _plain_cells(row), strict=True)
    return [text if head in {"fault", HEADS[-1]} else f"{head} {text}" for head, text in pairs]
