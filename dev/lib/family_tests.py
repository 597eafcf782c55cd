"""The family's own tests, on a database without ours and on one with them: they must not differ."""

from . import family, odoo_log
from .odoo_tests import tail
from .say import stage

ALONE = "family"


def run(lab, tally, stack):
    """Run them on both, where there is a family, and compare what passed and what failed."""
    if family.folder():
        with stage("the family's own tests, with ours and without"):
            _compare(lab, tally, stack)


def _compare(lab, tally, stack):
    names = [name for name in family.installed() if (family.theirs()[name] / "tests").is_dir()]
    lab.instance.create_database(ALONE, family.installed())
    before, after = _outcomes(lab, ALONE, names), _outcomes(lab, stack, names)
    lab.instance.drop_database(ALONE)
    changed = sorted(name for name in before if before[name] != after.get(name))
    counts = f"{list(before.values()).count(True)} of {len(before)} pass without ours"
    tally.check(before and not changed, f"the family's own tests ({counts})", "\n".join(changed))


def _outcomes(lab, database, names):
    """Return {test: whether it passed} of the family's modules."""
    log = lab.folder / f"{database}.family.log"
    tags = [f"/{name}" for name in names]
    lab.instance.run_tests(database, tags, "-u", ",".join(names), log=log)
    report = odoo_log.read(log.read_text(errors="replace"), names)
    if not report.started:
        raise RuntimeError(f"none of the family's tests ran: {tail(log)}")
    broken = {*report.failed, *report.skipped}
    return {f"{module}/{file}: {name}": (module, file, name) not in broken
            for module, file, name in report.started}  # fmt: skip
