"""Run the tests of our modules in Odoo, and believe only the log."""

from . import family, inventory, modules, odoo_log
from .say import say

#: Why a test of ours is skipped that cannot be about the family's addons, see `tests/common.py`.
OF_ANOTHER_LLM = "needs another llm: "


def run(lab, tally, database, names, *, tags=None, update=(), install=(), addons=None):
    """Run the tests of these modules and record each; with tags only those.

    :param addons: a folder besides those of the addons path
    """
    log = lab.folder / f"{database}.tests.log"
    path = ",".join(map(str, (*lab.instance.addons_path, addons)))
    status = lab.instance.run_tests(
        database,
        [tags] if tags else [f"*/{name}" for name in names],
        f"--screenshots={lab.folder / 'pictures'}",
        *(("-u", ",".join(update)) if update else ()),
        *(("-i", ",".join(install)) if install else ()),
        *((f"--addons-path={path}",) if addons else ()),
        log=log,
    )
    report = odoo_log.read(log.read_text(errors="replace"), {*modules.folders(), *names})
    report.problems = [one for one in report.problems if not _is_of_the_family(one)]
    record(tally, report)
    ended_well = not status or report.failed or report.problems
    tally.check(ended_well, f"Odoo ended with status {status}", tail(log))
    for tag in not_matched(tags or "", report.started):
        tally.fail(f"no test matches T={tag}")
    return report


def _is_of_the_family(record):
    """Tell what the family's addons log of a provider that fails, as tests of ours have it."""
    addon = record.logger.removeprefix("odoo.addons.").partition(".")[0]
    return addon in family.theirs()


def not_matched(tags, started):
    """Return those of some tags, /module:Class.method or less of it, that no started test has.

    >>> not_matched("/llm:TestA,/llm:TestA.test_b,/llm_tool", {("llm", "test_a", "TestA.test_c")})
    ['/llm:TestA.test_b', '/llm_tool']
    """
    names = {
        f"/{module}{part}"
        for module, _file, test in started
        for part in ("", f":{test.partition('.')[0]}", f":{test}")
    }
    asked = [tag for tag in tags.split(",") if tag.startswith("/") and tag.count("/") == 1]
    return [tag for tag in asked if tag not in names]


def record(tally, report):
    """Record each test, and what the log has and should not have."""
    tally.ok(len(report.passed))
    for (module, file, name), text in report.failed.items():
        tally.fail(f"{module}/{file}: {name}", text)
    of_another = 0
    for (module, file, name), text in report.skipped.items():
        if family.folder() and OF_ANOTHER_LLM in text:
            of_another += 1
        elif (module, file, name) not in report.failed:
            tally.fail(f"{module}/{file}: {name} was skipped", text)
    if of_another:
        say(f"{of_another} tests are about what the family's addons do not have")
    for problem in report.problems:
        tally.fail(f"the log has: {str(problem).splitlines()[0][:160]}", str(problem))


def check_all_ran(tally, report, folders):
    """Compare what ran with what is written: a test that nobody imports passes for ever."""
    for name, folder in folders.items():
        written = inventory.written_tests(name, folder)
        ran = sum(1 for module, _file, _name in report.started if module == name)
        say(f"{name}: {len(written)} tests are written, {ran} ran")
        for _module, file, case, method in inventory.not_run(written, report.started):
            tally.fail(f"{name}/{file}: {case}.{method} did not run")
        if not written:
            tally.fail(f"{name} has no tests")


def tail(path, lines=40):
    return "\n".join(path.read_text(errors="replace").splitlines()[-lines:])
