"""The tests of our bridge to queue_job, and queue_job's own, on a database that has both."""

from types import SimpleNamespace

from . import inventory, module_cycle, odoo_log, odoo_tests, peer
from .say import say

DATABASE = "bridge"
#: Where queue_job is without us, to compare.
ALONE = "alone"
#: The modules with queue_job's own tests.
THEIRS = (peer.MODULE, f"test_{peer.MODULE}")


def split(tags):
    """Return the tags for our ordinary databases, and those that name a bridge.

    >>> split(["/llm:TestLlm", "/llm_tool"])
    (['/llm:TestLlm', '/llm_tool'], [])
    """
    names = peer.bridges()
    apart = [tag for tag in tags if tag.partition("/")[2].partition(":")[0] in names]
    return [tag for tag in tags if tag not in apart], apart


def _place(lab, name):
    folder = lab.folder / name
    return SimpleNamespace(instance=peer.beside(lab, folder), folder=folder)


def run(lab, tally, stack, tags=""):
    """Test the bridges beside all our modules, from the database `stack` where there is one."""
    place, bridges = _place(lab, "peer"), peer.bridges()
    if not tally.check(bridges, "there is a bridge to queue_job"):
        return
    template = stack if stack in lab.cluster.databases() else "tpl"
    place.instance.create_database(DATABASE, template=template)
    try:
        report = odoo_tests.run(place, tally, DATABASE, [*bridges], tags=tags, install=[*bridges])
        if not tags:
            odoo_tests.check_all_ran(tally, report, bridges)
            _run_theirs(place, tally)
    finally:
        place.instance.drop_database(DATABASE)


def live(lab, tally):
    """Take each bridge through its life, see module_cycle.py."""
    place = _place(lab, "peer-lives")
    for name in peer.bridges():
        module_cycle.run(place, tally, name)


def _run_theirs(place, tally):
    """Run the tests of queue_job beside us; what fails twice has to fail without us, too.

    Some of its tests take locks of PostgreSQL that the connection of the test before may still
    hold: they fail now and then wherever they run.
    Those of test_queue_job and those over HTTP run with us loaded; the others of queue_job run
    as an upgrade loads it, which is before us.
    """
    beside_us = _theirs(place, DATABASE)
    tally.ok(len(beside_us.passed))
    missing = [
        "{}/{}: {}.{}".format(*test)
        for name in THEIRS
        for test in inventory.not_run(
            inventory.written_tests(name, peer.addons() / name), beside_us.started
        )
        # What nothing imports does not run without us, too.
        if f"import {test[1]}\n" in (peer.addons() / name / "tests" / "__init__.py").read_text()
    ]
    tally.check(not missing, "all tests of queue_job ran beside us", "\n".join(missing))
    failed = beside_us.failed
    again = _theirs(place, DATABASE, ".again").passed if failed else set()
    alone = _theirs_alone(place).failed if failed.keys() - again else ()
    for test, text in failed.items():
        title = "queue_job's own {}/{}: {}".format(*test)
        if test in again:
            say(f"{title} failed once beside us, and passed when all ran again")
        elif test in alone:
            say(f"{title} fails without us, too")
        else:
            tally.fail(f"{title} fails beside us", text)
    say(
        f"queue_job: {len(beside_us.started)} tests of its own ran, {len(beside_us.passed)} passed,"
        f" {len(beside_us.skipped)} were skipped by it"
    )


def _theirs_alone(place):
    place.instance.create_database(ALONE, [peer.MODULE])
    try:
        return _theirs(place, ALONE)
    finally:
        place.instance.drop_database(ALONE)


def _theirs(place, database, kind=""):
    """Return the report on queue_job's own tests; those of an upgrade run in one."""
    log = place.folder / f"{database}.theirs{kind}.log"
    tags = [f"/{name}" for name in THEIRS]
    place.instance.run_tests(database, tags, "-u", peer.MODULE, "-i", THEIRS[1], log=log)
    return odoo_log.read(log.read_text(errors="replace"))
