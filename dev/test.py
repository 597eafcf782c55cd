"""Run every check and test, from nothing: make test. With T only these tests of Odoo."""

import os
import time
from concurrent.futures import ThreadPoolExecutor
from functools import partial

from lib import (
    fault_scripts,
    lab,
    linters,
    marks,
    module_cycle,
    modules,
    odoo_lint,
    odoo_log,
    odoo_tests,
    paths,
    peer_tests,
    provider_check,
    seed,
    test_models,
    unit_tests,
    wheel_check,
)
from lib.say import halt, run_main, say, stage
from lib.tally import Tally
from setup import set_up

STACK = "stack"  # the database that has all our modules


def main():
    tags = os.environ.get("T")
    tally, begin = Tally(), time.time()
    generated = linters.generated()
    with stage("set-up"):
        set_up("test")
        lab.sweep()
    if not tags:
        with stage("lint"):
            linters.run(tally)
        with stage("tests of the scripts"):
            unit_tests.run(tally)
    with lab.Lab("test", source=seed.folder()) as place:
        names = modules.installable(place.instance)
        if not names:
            halt("there is no module to test: no __manifest__.py was found.")
        _test_modules(place, tally, names, tags)
    if not tags:
        with stage("keys and prompts"):
            marks.check(tally, (paths.state() / "logs").glob("*/"), since=begin)
    new = linters.generated() - generated
    tally.check(not new, "nothing is generated in the repository", "\n".join(sorted(new)))
    if tally.failures:
        say(f"The logs are in {place.kept_logs}")
    return tally.close()


def _test_modules(place, tally, names, tags):
    tags, apart = peer_tests.split(tags)
    if (tags or not apart) and not _test_ours(place, tally, names, tags):
        return
    if apart or not tags:
        with stage("tests beside queue_job"):
            peer_tests.run(place, tally, STACK, apart)
    if not tags and not apart:
        _test_faults(place, tally)


def _test_ours(place, tally, names, tags):
    with stage("a database with all modules"):
        installed = _make_stack(place, tally, names)
    if not installed:
        return False
    with stage("a local model, and a mock of one"):
        test_models.serve(place)
    with stage("tests in Odoo"):
        _test_in_odoo(place, tally, names, tags)
    if not tags:
        _test_lives(place, tally, names)
    return True


def _make_stack(place, tally, names):
    log = place.folder / "stack.log"
    try:
        place.instance.create_database(STACK, names, log=log)
    except RuntimeError as error:
        tally.fail(str(error), odoo_tests.tail(log))
        return False
    report = odoo_log.read(log.read_text(errors="replace"), names)
    odoo_tests.record(tally, report)
    return True


def _test_in_odoo(place, tally, names, tags):
    place.instance.create_database("tests", template=STACK)
    report = odoo_tests.run(place, tally, "tests", names, tags=tags, update=names[:1])
    if tags:
        if not report.started:
            tally.fail(f"no test matches T={tags}")
    else:
        ours = modules.folders()
        odoo_tests.check_all_ran(tally, report, {name: ours[name] for name in names})
        marks.note(place)
    place.instance.drop_database("tests")


def _test_lives(place, tally, names):
    with stage("Odoo's own checks"):
        place.instance.create_database("lint", template=STACK)
        odoo_lint.run(place, tally, "lint")
        place.instance.drop_database("lint")
    with stage("modules one by one, from their wheels, and a new provider's"):
        skeleton = provider_check.prepare(place)
        lives = [*((name, "tpl") for name in names), (names[0], STACK)]
        works = [
            partial(wheel_check.run, place, tally),
            partial(peer_tests.live, place, tally),
            partial(provider_check.run, place, tally, skeleton, STACK),
            *(partial(module_cycle.run, place, tally, *life) for life in lives),
        ]
        pool = ThreadPoolExecutor(os.cpu_count())
        try:
            list(pool.map(lambda work: work(), works))
        finally:
            pool.shutdown(wait=False, cancel_futures=True)


def _test_faults(place, tally):
    with stage("faults and races"):
        place.cluster.stop()
        target = place.folder / "seed"
        target.mkdir()
        seed.save(place.cluster, place.instance, target)
        fault_scripts.run(place, tally, target)


if __name__ == "__main__":
    run_main(main)
