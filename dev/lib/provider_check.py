"""The addon that `make provider` writes, in an Odoo: it installs, and its tests pass."""

from . import odoo_tests, provider_skeleton
from .odoo_tests import tail

SERVICE = "zenith_sky"
DATABASE = "provider"


def prepare(lab):
    """Write the addon and put it on the addons path; return its folder."""
    folder = lab.folder / "skeleton"
    folder.mkdir()
    written = provider_skeleton.write(SERVICE, folder)
    lab.instance.add_addons(folder)
    return written


def run(lab, tally, folder, template):
    """Install the addon beside ours, on a copy of a database that has them, and run its tests."""
    name = folder.name
    lab.instance.create_database(DATABASE, template=template)
    try:
        report = odoo_tests.run(lab, tally, DATABASE, [name], install=[name])
        odoo_tests.check_all_ran(tally, report, {name: folder})
        log = lab.folder / f"{DATABASE}.tests.log"
        inherited = [test for _module, file, test in report.passed if file == "test_contract"]
        tally.check(inherited, f"{name} is held to the contract", tail(log))
    finally:
        lab.instance.drop_database(DATABASE)
