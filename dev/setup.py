"""Fetch and build what a command runs on, in the cache folder: setup.py [COMMAND].

Each command has all that it needs before it starts. Without one: what `make test` needs.
"""

import shutil
import sys

from lib import (
    apt,
    browser,
    environments,
    family,
    odoo_source,
    paths,
    peer,
    postgres,
    seed,
    steps,
)
from lib.say import halt, run_main, say, step

#: What each command needs.
COMMANDS = {
    "demo": {"odoo", "model"},
    "screenshots": {"odoo", "model", "chromium", "browser"},
    "bench": {"odoo", "chromium", "browser", "peer", "procrastinate"},
    "load": {"odoo", "peer"},
    "translate": {"odoo", "peer"},
    "lint": {"linters"},
    "wheel": {"wheel"},
    "test": {"odoo", "model", "mock", "chromium", "browser", "peer", "wheel", "linters"},
}


def system_packages():
    """Yield (part, whether it is missing, purpose, Debian packages): what no cache can have."""
    yield "odoo", not postgres.find_binaries(), "PostgreSQL's server", ["postgresql"]
    yield "chromium", not environments.chromium(), "Chromium", ["chromium"]
    yield "linters", not shutil.which("npm"), "Node.js with npm", ["nodejs", "npm"]


def steps_for(parts):
    if "odoo" in parts:
        yield from _odoo()
    if "model" in parts:
        yield environments.venv("model", "the local model", dependencies=False)
    if "mock" in parts:
        yield environments.venv("mock", "a server to test against", dependencies=False)
    if "browser" in parts:
        yield browser.STEP
    if "peer" in parts:
        yield peer.STEP
    if "procrastinate" in parts:
        yield environments.venv("procrastinate", "procrastinate", dependencies=False)
    if "wheel" in parts:
        yield environments.venv("wheel", "what builds wheels", dependencies=False)
    if "linters" in parts:
        lock = (paths.DEV / "package-lock.json").read_text()
        yield environments.venv("lint", "linters for Python")
        yield environments.venv("audit", "what audits the pins")
        yield steps.Step("node", "linters for JavaScript and XML", [lock], environments.build_node)


def _odoo():
    found = odoo_source.find()
    if not found:
        yield steps.Step("odoo", "Odoo 19.0", odoo_source.pins(), odoo_source.build)
    yield environments.venv("odoo", "Python packages of Odoo")
    if family.folder():
        yield family.step()
    pins = (*environments.pins("odoo"), *odoo_source.pins())
    yield steps.Step(
        "seed",
        "a fresh Odoo database",
        (*pins, found and found.package, postgres.find_binaries()),
        seed.build,
        after=("odoo", "venv-odoo"),
    )


def set_up(command):
    parts = COMMANDS[command]
    # Odoo 19.0 and the pins were tried with these versions of Python.
    if not (3, 11) <= sys.version_info[:2] <= (3, 12):
        version = ".".join(map(str, sys.version_info[:2]))
        halt(
            f"this is Python {version} and the pinned packages need 3.11 or 3.12: "
            "start make with PYTHON=python3.11, say."
        )
    odoo_source.find()  # a wrong ODOO_HOME is told before anything is fetched
    missing = [(what, names) for part, is_missing, what, names in system_packages()
               if is_missing and part in parts]  # fmt: skip
    if missing:
        names = [name for _what, some in missing for name in some]
        apt.install(names, " and ".join(what for what, _names in missing))
    steps.run_steps([*steps_for(parts)])
    paths.module_link()


def main():
    command = sys.argv[1] if len(sys.argv) > 1 else "test"
    set_up(command)
    step(f"ready: everything is in {paths.cache()}")
    say()


if __name__ == "__main__":
    run_main(main)
