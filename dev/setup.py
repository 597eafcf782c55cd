"""Fetch and build what the demo and the tests run on, in the cache folder.

setup.py [demo|lint|test]: `demo` leaves out the browser and the linters, `lint` all but them.
"""

import sys

from lib import environments, odoo_source, paths, peer, postgres, seed, steps
from lib.say import run_main, say, step


def steps_for(profile):
    run = () if profile == "lint" else (*_odoo(), *_model())
    mock = _mock() if profile == "test" else ()
    rest = (*wheel_steps(), peer.STEP) if profile == "test" else ()
    return [*run, *mock, *rest, *(() if profile == "demo" else _linters())]


def _odoo():
    found = odoo_source.find()
    pins = _venv_pins("odoo")
    if not found:
        yield steps.Step("odoo", "Odoo 19.0", odoo_source.pins(), odoo_source.build)
    yield steps.Step("venv-odoo", "Python packages of Odoo", pins, environments.build_venv("odoo"))
    yield steps.Step(
        "seed",
        "a fresh Odoo database",
        (*pins, *odoo_source.pins(), found and found.package, postgres.find_binaries()),
        seed.build,
        after=("odoo", "venv-odoo"),
    )


def _model():
    build = environments.build_venv("model", dependencies=False)
    yield steps.Step("venv-model", "the local model", _venv_pins("model"), build)


def _mock():
    build = environments.build_venv("mock", dependencies=False)
    yield steps.Step("venv-mock", "a server to test against", _venv_pins("mock"), build)


def wheel_steps():
    build = environments.build_venv("wheel", dependencies=False)
    yield steps.Step("venv-wheel", "what builds wheels", _venv_pins("wheel"), build)


def _linters():
    lock = (paths.DEV / "package-lock.json").read_text()
    build = environments.build_venv("lint")
    yield steps.Step("venv-lint", "linters for Python", _venv_pins("lint"), build)
    build = environments.build_venv("audit")
    yield steps.Step("venv-audit", "what looks for weaknesses", _venv_pins("audit"), build)
    yield steps.Step("node", "linters for JavaScript and XML", [lock], environments.build_node)


def _venv_pins(name):
    return environments.requirements(name).read_text(), sys.version_info[:2]


def set_up(profile):
    environments.check_python()
    odoo_source.find()  # a wrong ODOO_HOME is told before anything is fetched
    environments.install_system_packages(profile)
    steps.run_steps(steps_for(profile))
    paths.module_link()


def main():
    profile = sys.argv[1] if len(sys.argv) > 1 else "test"
    set_up(profile)
    step(f"ready: everything is in {paths.cache()}")
    say()


if __name__ == "__main__":
    run_main(main)
