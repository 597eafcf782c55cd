"""Fetch and build what the demo and the tests run on, in the cache folder.

setup.py [demo|test]: `demo` leaves out the browser and the linters.
"""

import sys

from lib import environments, odoo_source, paths, postgres, seed, steps
from lib.say import run_main, say, step


def steps_for(profile):
    tests = profile == "test"
    odoo_pins = (environments.requirements("odoo").read_text(), sys.version_info[:2])
    found = odoo_source.find()
    chosen = [
        steps.Step(
            "venv-odoo",
            "Python packages of Odoo",
            odoo_pins,
            environments.build_venv("odoo"),
        ),
        steps.Step(
            "venv-model",
            "the local model",
            (environments.requirements("model").read_text(), sys.version_info[:2]),
            environments.build_venv("model", dependencies=False),
        ),
        steps.Step(
            "seed",
            "a fresh Odoo database",
            (*odoo_pins, *odoo_source.pins(), found and found.package, postgres.find_binaries()),
            seed.build,
            after=("odoo", "venv-odoo"),
        ),
    ]
    if not found:
        chosen.insert(0, steps.Step("odoo", "Odoo 19.0", odoo_source.pins(), odoo_source.build))
    if tests:
        lint = (environments.requirements("lint").read_text(), sys.version_info[:2])
        chosen += [
            steps.Step("venv-lint", "linters for Python", lint, environments.build_venv("lint")),
            steps.Step(
                "node",
                "linters for JavaScript and XML",
                ((paths.SCRIPTS / "package-lock.json").read_text(),),
                environments.build_node,
            ),
        ]
    return chosen


def set_up(profile):
    environments.check_python()
    odoo_source.find()  # a wrong ODOO_HOME is told before anything is fetched
    environments.install_system_packages(tests=profile == "test")
    steps.run_steps(steps_for(profile))
    paths.module_link()


def main():
    profile = sys.argv[1] if len(sys.argv) > 1 else "test"
    set_up(profile)
    step(f"ready: everything is in {paths.cache()}")
    say()


if __name__ == "__main__":
    run_main(main)
