"""The tests of our bridge to queue_job, and queue_job's own, on a database that has both."""

from types import SimpleNamespace

from . import inventory, module_cycle, odoo_log, odoo_tests, peer, processes
from .say import say

DATABASE = "bridge"
#: Where queue_job is without us, to compare.
ALONE = "alone"
#: The modules with queue_job's own tests.
THEIRS = (peer.MODULE, f"test_{peer.MODULE}")


def split(tags):
    """Return the tags for our ordinary databases, and those that name a bridge; '' for none.

    >>> split("/llm:TestLlm,/llm_tool")
    ('/llm:TestLlm,/llm_tool', '')
    """
    all_tags = [tag for tag in (tags or "").split(",") if tag]
    names = peer.bridges()
    apart = [tag for tag in all_tags if tag.partition("/")[2].partition(":")[0] in names]
    rest = [tag for tag in all_tags if tag not in apart]
    return ",".join(rest), ",".join(apart)


def run(lab, tally, stack, tags=""):
    """Test the bridges beside all our modules, from the database `stack` where there is one."""
    folder = lab.folder / "peer"
    place = SimpleNamespace(instance=peer.beside(lab, folder), folder=folder)
    bridges = peer.bridges()
    if not bridges:
        tally.fail("there is no bridge to queue_job")
        return
    template = stack if stack in lab.cluster.databases() else "tpl"
    place.instance.create_database(DATABASE, template=template)
    try:
        report = odoo_tests.run(
            place, tally, DATABASE, [*bridges], tags=tags or None, install=[*bridges]
        )
        if not tags:
            odoo_tests.check_all_ran(tally, report, bridges)
            _run_theirs(place, tally)
        elif not report.started:
            tally.fail(f"no test matches T={tags}")
    finally:
        place.instance.drop_database(DATABASE)


def live(lab, tally):
    """Take each bridge through its life, see module_cycle.py."""
    folder = lab.folder / "peer-lives"
    place = SimpleNamespace(instance=peer.beside(lab, folder), folder=folder)
    for name in peer.bridges():
        module_cycle.run(place, tally, name)


def _run_theirs(place, tally):
    """Run the tests of queue_job beside us; what fails has to fail without us, too.

    Those of test_queue_job and those over HTTP run with us loaded; the others of queue_job run
    as an upgrade loads it, which is before us.
    """
    beside_us = _theirs(place, DATABASE)
    _check_all_ran(tally, beside_us)
    tally.ok(len(beside_us.passed))
    alone = _theirs_alone(place) if beside_us.failed else None
    for test, text in beside_us.failed.items():
        title = "queue_job's own {}/{}: {}".format(*test)
        if test in alone.failed:
            say(f"{title} fails without us, too")
        else:
            tally.fail(f"{title} fails beside us", text)
    for test, text in beside_us.skipped.items():
        say("queue_job skips {}/{}: {}".format(*test) + f": {text}")
    say(f"queue_job: {len(beside_us.started)} tests of its own ran, {len(beside_us.passed)} passed")


def _check_all_ran(tally, report):
    missing = []
    for name in THEIRS:
        folder = peer.addons() / name
        imported = (folder / "tests" / "__init__.py").read_text(encoding="utf-8")
        for test in inventory.not_run(inventory.written_tests(name, folder), report.started):
            title = "{}/{}: {}.{}".format(*test)
            if f"import {test[1]}\n" in imported:
                missing.append(title)
            else:
                say(f"queue_job's own {title} does not run without us, too: nothing imports it")
    tally.check(not missing, "all tests of queue_job ran beside us", "\n".join(missing))


def _theirs_alone(place):
    place.instance.create_database(ALONE, [peer.MODULE])
    try:
        return _theirs(place, ALONE)
    finally:
        place.instance.drop_database(ALONE)


def _theirs(place, database):
    """Return the report on queue_job's own tests; those of an upgrade run in one."""
    log = place.folder / f"{database}.theirs.log"
    place.instance.run(
        *("-d", database, "-u", peer.MODULE, "-i", THEIRS[1], "--stop-after-init"),
        *("--test-tags", ",".join(f"/{name}" for name in THEIRS), "--max-cron-threads=0"),
        f"--http-port={processes.free_port()}",
        f"--gevent-port={processes.free_port()}",
        log=log,
    )
    return odoo_log.read(log.read_text(errors="replace"))
