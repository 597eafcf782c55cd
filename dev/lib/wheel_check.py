"""Our modules as pip installs them: Odoo finds them on no addons path, and their tests pass."""

import shutil
from types import SimpleNamespace

from . import linters, modules, odoo_server, odoo_tests, paths, wheels

DATABASE = "wheel"
#: Test classes that read files of each sort: the README, security/, i18n/, the modules of Python.
SOME = ("TestReadmeUse", "TestReadmeNames", "TestRightsMatrix", "TestTranslations", "TestDoctests")
_FOUND = """\
from odoo.modules import get_module_path
result = {
    "paths": {name: get_module_path(name) for name in NAMES},
    "states": env["ir.module.module"].search([("name", "in", NAMES)]).mapped("state"),
}
"""


def run(lab, tally, *, everything=False):
    """Build and install the wheels, and run tests from there: some, or each that is written."""
    built = wheels.build(lab.folder / "wheels")
    _check_contents(tally, built[paths.MODULE])
    built = {name: built[name] for name in modules.installable(lab.instance)}
    site, folder = lab.folder / "site", lab.folder / "wheel"
    wheels.install(built.values(), site)
    # An Odoo that has no module of ours but those that are installed.
    instance = odoo_server.Instance(lab.cluster, folder, site=site)
    files = lab.instance.data_dir / "filestore" / "tpl"
    if files.is_dir():
        shutil.copytree(files, instance.data_dir / "filestore" / "tpl")
    instance.create_database(DATABASE)
    try:
        place = SimpleNamespace(instance=instance, folder=folder)
        _test(place, tally, built, everything)
        _check_found(instance, tally, built, site)
    finally:
        instance.drop_database(DATABASE)


def _check_contents(tally, wheel):
    prefix = f"odoo/addons/{paths.MODULE}/"
    inside = {name.removeprefix(prefix) for name in wheels.contents(wheel) if name[:5] == "odoo/"}
    files = (name for name in linters.tracked() if not name.startswith("."))
    expected = {name for name in files if name.partition("/")[0] not in wheels.left_out()}
    tally.check(inside == expected, f"{wheel.name} has the files of the addon",
                f"different: {sorted(inside ^ expected)}")  # fmt: skip
    version = modules.manifest(paths.ROOT)["version"]
    name = f"odoo_addon_{paths.MODULE}-{version}-py3-none-any.whl"
    tally.check(wheel.name == name, f"the wheel is called {name}", wheel.name)


def _test(place, tally, built, everything):
    ours = modules.folders()
    tags = None if everything else ",".join(f"/{paths.MODULE}:{name}" for name in SOME)
    report = odoo_tests.run(place, tally, DATABASE, list(built), tags=tags, install=list(built))
    if everything:
        odoo_tests.check_all_ran(tally, report, {name: ours[name] for name in built})
        return
    cases = {name.partition(".")[0] for _module, _file, name in report.passed}
    tally.check(cases >= {*SOME}, "the tests ran from the wheel", f"ran: {sorted(cases)}")


def _check_found(instance, tally, built, site):
    found = instance.code(DATABASE, f"NAMES = {sorted(built)!r}\n{_FOUND}")
    for name, path in found["paths"].items():
        expected = str(site / "odoo" / "addons" / name)
        tally.check(path == expected, f"Odoo finds {name} where pip put it", path)
    installed = {"installed"} == set(found["states"])
    tally.check(installed, "the modules of the wheels are installed", str(found["states"]))
