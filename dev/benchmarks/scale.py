"""Simulate a day of ten million jobs at the costs of costs.json: make scale.

Writes scale.json, the picture, and the figures of docs/scale.md.
"""

import json
import subprocess
import sys
from pathlib import Path

import packages
from capacity import figures, foretell, model, page
from lib import steps
from lib.say import run_main, say, stage
from lib.tally import Tally

HERE = Path(__file__).resolve().parent
PICTURE = HERE.parents[1] / "docs" / "scale.png"


def main():
    tally = Tally()
    steps.run_steps([packages.PLOT])
    with stage("runs of real servers, foretold"):
        for name, took, foretold in figures.errors(model.read()):
            error = abs(foretold / took - 1)
            title = f"{name}: foretold within {foretell.TOLERANCE:.0%}"
            say(f"{name}: {took:.1f} s measured, {foretold:.1f} s foretold")
            tally.check(error <= foretell.TOLERANCE, title, f"{error:.0%}")
    with stage("a day of ten million jobs"):
        day = figures.save()
        ended = day["completed"] + day["failed"] + day["unended"]
        tally.check(ended == day["asked"], "no job is lost", f"{ended} of {day['asked']}")
        tally.check(day["limits_held"], "the limits hold")
    subprocess.run(
        [sys.executable, HERE / "capacity" / "draw_day.py", PICTURE],
        input=json.dumps(day),
        text=True,
        check=True,
        env={"PYTHONPATH": str(packages.PLOT.folder), "MPLCONFIGDIR": str(packages.PLOT.folder)},
    )
    page.write(day)
    say(page.block(model.read(), day))
    return tally.close()


if __name__ == "__main__":
    run_main(main)
