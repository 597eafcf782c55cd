"""Run the tests of our modules in Odoo, and believe only the log."""

from . import inventory, modules, odoo_log, processes
from .say import say

# Slow or hanging work ends as a failure and not as a run without end.
_OPTIONS = ("--stop-after-init", "--max-cron-threads=0", "--log-level=info")


def run(lab, tally, database, names, *, tags=None, update=(), install=()):
    """Run the tests of these modules and record each; with tags only those."""
    ours = {*modules.folders(), *names}
    log = lab.folder / f"{database}.tests.log"
    tags = tags or ",".join(f"*/{name}" for name in names)
    status = lab.instance.run(
        *("-d", database, "--test-tags", tags, f"--http-port={processes.free_port()}"),
        *(f"--gevent-port={processes.free_port()}", f"--screenshots={lab.folder / 'pictures'}"),
        *(("-u", ",".join(update)) if update else ()),
        *(("-i", ",".join(install)) if install else ()),
        *_OPTIONS,
        log=log,
    )
    report = odoo_log.read(log.read_text(errors="replace"), ours)
    record(tally, report)
    tally.check(
        not status or report.failed or report.problems,
        f"Odoo ended with status {status}",
        tail(log),
    )
    return report


def record(tally, report):
    """Record each test, and what the log has and should not have."""
    tally.ok(len(report.passed))
    for (module, file, name), text in report.failed.items():
        tally.fail(f"{module}/{file}: {name}", text)
    for (module, file, name), text in report.skipped.items():
        if (module, file, name) not in report.failed:
            tally.fail(f"{module}/{file}: {name} was skipped", text)
    for problem in report.problems:
        tally.fail(f"the log has: {str(problem).splitlines()[0][:160]}", str(problem))


def check_all_ran(tally, report, folders):
    """Compare what ran with what is written: a test that nobody imports passes for ever."""
    for name, folder in folders.items():
        written = inventory.written_tests(name, folder)
        missing = inventory.not_run(written, report.started)
        ran = sum(1 for module, _file, _name in report.started if module == name)
        say(f"{name}: {len(written)} tests are written, {ran} ran")
        for _module, file, case, method in missing:
            tally.fail(f"{name}/{file}: {case}.{method} did not run")
        if not written:
            tally.fail(f"{name} has no tests")


def tail(path, lines=40):
    return "\n".join(path.read_text(errors="replace").splitlines()[-lines:])
