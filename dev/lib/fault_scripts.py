"""Run the fault and race scripts: each a process of its own, with real servers."""

import os
import re
import time
from concurrent.futures import ThreadPoolExecutor

from . import fault_table, paths, processes
from .odoo_tests import tail
from .say import step

LIMIT = 900  # seconds: a script that hangs has failed
AT_ONCE = 2


def scripts():
    return sorted((paths.DEV / "faults").glob("check_*.py"))


def run(lab, tally, seed_folder):
    """Run them all and print their table.

    Most of the time a script waits for what it has set going: two at a time take little more than
    one. Those that hold something to a bar in seconds say ALONE, and come one after the other.
    """
    table = lab.folder / "fault_table.log"
    env = {
        **lab.instance.environment,
        "LLM_SEED": str(seed_folder),
        "PYTHONDONTWRITEBYTECODE": "1",
        fault_table.VARIABLE: str(table),
        **{key: value for key, value in os.environ.items() if key.startswith("LLM_TEST_")},
    }
    alone = [script for script in scripts() if _runs_alone(script)]
    together = [script for script in scripts() if script not in alone]
    for some, width in ((together, AT_ONCE), (alone, 1)):
        with ThreadPoolExecutor(width) as pool:
            list(pool.map(lambda script: _run_one(lab, tally, script, env), some))
    fault_table.check(tally, fault_table.read(table), [script.stem for script in scripts()])


def _runs_alone(script):
    return re.search(r"^ALONE = True$", script.read_text(), re.MULTILINE)


def _run_one(lab, tally, script, env):
    step(f"{script.stem} …")
    begin = time.monotonic()
    log = lab.folder / f"{script.stem}.log"
    with log.open("ab") as file:
        status = processes.run([paths.venv_python("odoo"), script], file, env=env, seconds=LIMIT)
    passed, failed = _closing_line(log)
    step(f"{script.stem}: {passed} passed, {failed} failed, {time.monotonic() - begin:.0f} s")
    tally.ok(passed)
    tally.check(
        status == 0 and not failed and passed,
        f"{script.stem}: {passed} passed, {failed} failed, status {status}",
        tail(log, 60),
    )


def _closing_line(log):
    lines = log.read_text(errors="replace").strip().splitlines() or [""]
    match = re.fullmatch(r"(\d+) passed, (\d+) failed", lines[-1].strip())
    return (int(match[1]), int(match[2])) if match else (0, 0)


def result(log):
    """Return how many checks passed in the log of a script, and the titles of those that failed."""
    lines = log.read_text(errors="replace").splitlines()
    passed, failed = _closing_line(log)
    titles = [line.removeprefix("FAILED ") for line in lines if line.startswith("FAILED ")]
    return passed, titles if failed else []
