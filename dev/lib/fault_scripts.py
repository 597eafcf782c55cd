"""Run the fault and race scripts: each a process of its own, with real servers."""

import os
import re
import time

from . import fault_table, paths, processes
from .odoo_tests import tail
from .say import halt, step

LIMIT = 900  # seconds: a script that hangs has failed
AT_ONCE, QUIET_AT_ONCE = 3, 2
FOLDER = paths.DEV / "faults"
#: A database with all modules and the scripts' own, which each of them copies where it is there.
DATABASE = "fault_stack"
PROVIDER = "llm_fault_provider"


def scripts(names=None):
    """Return the scripts of these names, all where no names are given."""
    found = {path.stem: path for path in sorted(FOLDER.glob("check_*.py"))}
    if unknown := set(names or ()) - found.keys():
        halt(f"there is no script {', '.join(sorted(unknown))} in dev/faults/.")
    return [found[name] for name in (found if names is None else names)]


def make_database(instance, template):
    """Make the database that the scripts copy, so that not each of them has to make its own."""
    addons = instance.addons_path
    instance.set_addons([*addons, FOLDER / "addons"])
    instance.create_database(DATABASE, [PROVIDER], template=template)
    instance.set_addons(addons)


def run(lab, tally, seed_folder, chosen):
    """Run the chosen scripts, or all where none are, and print their table.

    Most of the time a script waits for what it has set going: two at a time leave more than half of
    two processors idle. Those that hold something to a bar in seconds say QUIET, and come after
    the others, fewer at a time.
    """
    chosen = chosen or scripts()
    table = lab.folder / "fault_table.log"
    env = {
        **lab.instance.environment,
        "LLM_SEED": str(seed_folder),
        "PYTHONDONTWRITEBYTECODE": "1",
        fault_table.VARIABLE: str(table),
        **{key: value for key, value in os.environ.items() if key.startswith("LLM_TEST_")},
    }
    quiet = [path for path in chosen if re.search(r"^QUIET = True$", path.read_text(), re.M)]
    others = [path for path in chosen if path not in quiet]
    for some, width in ((others, AT_ONCE), (quiet, QUIET_AT_ONCE)):
        processes.run_together(lambda path: _run_one(lab, tally, path, env), some, width)
    fault_table.check(tally, fault_table.read(table), [path.stem for path in chosen])


def _run_one(lab, tally, path, env):
    step(f"{path.stem} …")
    begin = time.monotonic()
    log = lab.folder / f"{path.stem}.log"
    with log.open("ab") as file:
        command = [paths.venv_python("odoo"), path]
        status = processes.run(command, file, env=env, seconds=LIMIT)
    passed, failures = result(log)
    told = f"{path.stem}: {passed} passed, {len(failures)} failed"
    step(f"{told}, {time.monotonic() - begin:.0f} s")
    tally.ok(passed)
    good = status == 0 and not failures and passed
    why = "; ".join([f"status {status}", *failures])
    tally.check(good, f"{told}, {why}", "" if good else tail(log, 60))


def result(log):
    """Return how many checks passed in the log of a script, and the titles of those that failed.

    A log without its closing line has passed nothing, whatever it says.
    """
    lines = log.read_text(errors="replace").strip().splitlines() or [""]
    closing = re.fullmatch(r"(\d+) passed, (\d+) failed", lines[-1].strip())
    titles = [line.removeprefix("FAILED ") for line in lines if line.startswith("FAILED ")]
    return (int(closing[1]), titles) if closing else (0, titles)
