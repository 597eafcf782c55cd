"""The upgrade of a database of 19.0.1.0.0, whose core had what an addon has now."""

from fault_lab import FaultLab
from lib import family, modules, odoo_log

ROOT = "llm_generate_job"
UPGRADE = (*("-d", FaultLab.database, "-u", ROOT), "--stop-after-init", "--no-http")


def same(tally, found, expected, title):
    tally.check(found == expected, title, f"found {found}\nexpected {expected}")


def upgrade(lab, tally, addon, table):
    """Upgrade without the addon, which is refused, then with it, and return whether it succeeds.

    :param str table: one with a single row, which goes over to the addon
    """
    _upgrade_without(lab, tally, addon, table)
    log = lab.folder / "upgrade.log"
    status = lab.instance.run(*UPGRADE, log=log)
    text = log.read_text(errors="replace")
    report = odoo_log.read(text, modules.folders())
    problems = "\n".join(map(str, report.problems)) or text[-3000:]
    return tally.check(not status and not report.problems, "the upgrade succeeds", problems)


def _upgrade_without(lab, tally, addon, table):
    """Where the addon is not there, nothing is upgraded, and the log says what is missing."""
    path, others = lab.instance.addons_path, lab.folder / "others"
    others.mkdir()
    for name, folder in (family.theirs() | family.bridges()).items():
        if name != addon:
            (others / name).symlink_to(folder)
    rest = [folder for folder in path if not (folder / addon).exists()]
    log = lab.folder / "refused.log"
    addons = f"--addons-path={','.join(map(str, [*rest, others]))}"
    status = lab.instance.run(addons, *UPGRADE, log=log)
    text = log.read_text(errors="replace")
    tally.check(status, "without the addon it is refused", text[-2000:])
    tally.check(f"belong to the addon {addon} now" in text, "and says why", text[-2000:])
    tally.check(lab.sql(f"SELECT count(*) FROM {table}") == "1", "nothing is lost by that")
