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
_LINE = "{:<54} {:>5} {:>5} {:>6} {:>6} {:>10}  {}"
_HEADS = ("fault", "jobs", "lost", "again", "stuck", "recovered", "why submitted again")


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

    def __str__(self):
        why = f"{self.why} {self.unexplained} UNEXPLAINED" if self.unexplained else self.why
        numbers = (self.jobs, self.lost, self.duplicated, self.stuck, f"{self.recovered:.1f} s")
        return _LINE.format(self.fault, *numbers, why).rstrip()


def hand_over(row):
    """Note a row for the table."""
    step(f"{row}")
    if path := os.environ.get(VARIABLE):
        with Path(path).open("a", encoding="utf-8") as file:
            file.write(json.dumps(asdict(row)) + "\n")


def read(path):
    """Return the rows of a file, oldest first."""
    lines = path.read_text().splitlines() if path.exists() else []
    return [Row(**json.loads(line)) for line in lines]


def check(tally, rows, scripts):
    """Print the table, and hold each row to: 0 lost, 0 stuck, no duplicate without a reason.

    :param scripts: the names of the scripts, each of which has at least one row
    """
    say("\n".join(["", _LINE.format(*_HEADS), *map(str, rows), ""]))
    for row in rows:
        tally.check(row.is_good, f"{row.script}, {row.fault}: nothing lost, stuck or unexplained")
    missing = sorted(set(scripts) - {row.script for row in rows})
    tally.check(not missing, "each fault script has its row", ", ".join(missing))
