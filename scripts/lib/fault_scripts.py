"""Run the fault and race scripts: each a process of its own, with real servers."""

import os
import re

from . import fault_table, paths, processes
from .odoo_tests import tail
from .say import step

LIMIT = 900  # seconds: a script that hangs has failed


def scripts():
    return sorted((paths.ROOT / "tests" / "faults").glob("check_*.py"))


def run(lab, tally, seed_folder):
    table = lab.folder / "fault_table.log"
    for script in scripts():
        step(f"{script.stem} …")
        log = lab.folder / f"{script.stem}.log"
        env = {
            **lab.instance.environment,
            "LLM_SEED": str(seed_folder),
            "PYTHONDONTWRITEBYTECODE": "1",
            fault_table.VARIABLE: str(table),
            **{key: value for key, value in os.environ.items() if key.startswith("LLM_TEST_")},
        }
        with log.open("ab") as file:
            status = processes.run(
                [paths.venv_python("odoo"), script], file, env=env, seconds=LIMIT, ledger=lab.ledger
            )
        passed, failed = _closing_line(log)
        tally.ok(passed)
        tally.check(
            status == 0 and not failed and passed,
            f"{script.stem}: {passed} passed, {failed} failed, status {status}",
            tail(log, 60),
        )
    fault_table.check(tally, fault_table.read(table), [script.stem for script in scripts()])


def _closing_line(log):
    lines = log.read_text(errors="replace").strip().splitlines() or [""]
    match = re.fullmatch(r"(\d+) passed, (\d+) failed", lines[-1].strip())
    return (int(match[1]), int(match[2])) if match else (0, 0)
