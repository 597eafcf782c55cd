"""Run every check and test, from nothing: make test. With T only these tests of Odoo, or these
scripts of dev/faults/: T=/llm_thread or T=check_kill. With FAMILY=<folder> on real addons of the
odoo-llm family instead of the stand-ins in addons/.
"""

import os
import re
import subprocess
import sys
import time
from functools import partial

from lib import (
    family,
    family_tests,
    fault_scripts,
    lab,
    linters,
    marks,
    model_server,
    module_cycle,
    modules,
    odoo_lint,
    odoo_log,
    odoo_tests,
    paths,
    peer_tests,
    processes,
    provider_skeleton,
    seed,
    wheel_check,
)
from lib.say import halt, run_main, say, stage
from lib.tally import Tally
from setup import set_up

STACK = "stack"  # the database that has all our modules


def main():
    tags = [tag for tag in os.environ.get("T", "").split(",") if tag]
    scripts = fault_scripts.scripts([tag for tag in tags if "/" not in tag])
    tally, begin = Tally(), time.time()
    generated = linters.generated()
    with stage("set-up"):
        set_up("test")
        lab.sweep()
    if not tags and not family.folder():
        with stage("tests of the tools"):
            _test_tools(tally)
    with lab.Lab("test", source=seed.folder()) as place:
        names = modules.installable(place.instance)
        if not names:
            halt("there is no module to test: no __manifest__.py was found.")
        tests = [tag for tag in tags if "/" in tag]
        has_stack = (tests or not tags or scripts) and _make_stack(place, tally, names)
        if tests or not tags:  # the tests in Odoo keep one processor busy
            works = _works(place, tally, names, tests, has_stack)
            processes.run_together(lambda work: work(), works, os.cpu_count())
        if has_stack and not tags:
            family_tests.run(place, tally, STACK)
        if has_stack and (not tags or scripts):
            _test_faults(place, tally, scripts)
    if not tags:
        with stage("keys and prompts"):
            marks.check(tally, (paths.state() / "logs").glob("*/"), since=begin)
    new = linters.generated() - generated
    tally.check(not new, "nothing is generated in the repository", "\n".join(sorted(new)))
    if tally.failures:
        say(f"The logs are in {place.kept_logs}")
    return tally.close()


def _test_tools(tally):
    """Run dev/tests/, which is plain unittest; a skipped test is a failure."""
    command = [sys.executable, "-m", "unittest", "discover", "-v", paths.DEV / "tests"]
    env = {**os.environ, "PYTHONPATH": str(paths.DEV)}
    told = subprocess.run(command, env=env, capture_output=True, text=True, check=False).stderr
    ran = re.search(r"^Ran ([1-9]\d*) tests? in \S+\n\nOK\n\Z", told, re.MULTILINE)
    tally.ok(int(ran[1]) if ran else 0)
    red = re.findall(r"^(?:FAIL|ERROR): .+|^.+ \.\.\. skipped .+", told, re.MULTILINE)
    tally.check(ran, f"tests of the tools: {', '.join(red)}", told)


def _make_stack(place, tally, names):
    log = place.folder / "stack.log"
    with stage("a database with all modules"):
        try:
            place.instance.create_database(STACK, [*family.installed(), *names], log=log)
        except RuntimeError as error:
            tally.fail(str(error), odoo_tests.tail(log))
            return False
        odoo_tests.record(tally, odoo_log.read(log.read_text(errors="replace"), names))
        return True


def _works(place, tally, names, tests, has_stack):
    """Return what may run at the same time: the chosen tests, or all that is no fault script."""
    ours, apart = peer_tests.split(tests)
    works = []
    if has_stack and (ours or not tests):
        model_server.serve_tests(place.folder)
        works.append(partial(_test_ours, place, tally, names, ",".join(ours)))
    if not tests and not family.folder():
        works.append(partial(_lint, tally))
    if apart or not tests:
        works.append(partial(_test_peers, place, tally, ",".join(apart)))
    if has_stack and not tests:
        works += _lives(place, tally, names)
    return works


def _test_ours(place, tally, names, tags):
    with stage("tests in Odoo"):
        place.instance.create_database("tests", template=STACK)
        report = odoo_tests.run(place, tally, "tests", names, tags=tags, update=names[:1])
        if not tags:
            ours = modules.folders()
            odoo_tests.check_all_ran(tally, report, {name: ours[name] for name in names})
            marks.note(place, "tests")
        place.instance.drop_database("tests")


def _lint(tally):
    with stage("lint"):
        linters.run(tally)


def _test_peers(place, tally, tags):
    with stage("tests beside queue_job"):
        peer_tests.run(place, tally, STACK, tags)


def _lives(place, tally, names):
    """Return what takes modules through a life: one by one, from their wheels, a new provider's."""
    lives = [*((name, "tpl") for name in names), (names[0], STACK)]
    works = [partial(module_cycle.run, place, tally, *life) for life in lives]
    if not family.folder():  # these ask nothing of the modules below ours
        works += [
            partial(odoo_lint.run, place, tally, STACK),
            partial(wheel_check.run, place, tally),
            partial(peer_tests.live, place, tally),
            partial(provider_skeleton.check, place, tally, STACK),
        ]
    return works


def _test_faults(place, tally, scripts):
    with stage("faults and races"):
        fault_scripts.make_database(place.instance, STACK)
        place.cluster.stop()
        target = place.folder / "seed"
        target.mkdir()
        seed.save(place.cluster, place.instance, target)
        fault_scripts.run(place, tally, target, scripts)


if __name__ == "__main__":
    run_main(main)
