"""Virtual environments and node tools with pinned versions."""

import importlib.util
import shutil
import sys

from . import apt, commands, fake_clock, paths, postgres
from .say import halt


def requirements(name):
    return paths.DEV / f"requirements-{name}.txt"


def check_python():
    """Odoo 19.0 and the pins were tried with these versions of Python."""
    if not (3, 11) <= sys.version_info[:2] <= (3, 12):
        version = ".".join(map(str, sys.version_info[:2]))
        halt(
            f"this is Python {version} and the pinned packages need 3.11 or 3.12: "
            "start make with PYTHON=python3.11, say."
        )


def build_venv(name, *, dependencies=True):
    def build(folder):
        if not importlib.util.find_spec("ensurepip"):
            apt.install(["python3-venv"], "Python's venv module")
        commands.run(
            [sys.executable, "-m", "venv", folder],
            "making a virtual environment",
            name=f"venv-{name}",
        )
        commands.run(
            [
                folder / "bin" / "python",
                *("-m", "pip", "install", "--disable-pip-version-check", "--no-input"),
                *("--prefer-binary", "--retries", "3"),
                *(() if dependencies else ("--no-deps",)),
                *("-r", requirements(name)),
            ],
            f"installing the Python packages of {requirements(name).name}",
            name=f"venv-{name}",
        )
        _settle(folder, paths.cache() / f"venv-{name}")

    return build


def build_apart(name, pins):
    """Return what installs pinned packages, and nothing that they ask for, into a plain folder.

    :param str name: that of the log
    :param Path pins: a file of requirements
    """

    def build(folder):
        commands.run(
            [
                *(sys.executable, "-m", "pip", "install", "--disable-pip-version-check"),
                *("--no-input", "--retries", "3", "--no-compile", "--no-deps"),
                *("--target", folder, "-r", pins),
            ],
            f"installing the packages of {pins.name}",
            name=name,
        )

    return build


def _settle(folder, final):
    """Let the programs of a virtual environment name the folder that it will be renamed to."""
    for program in (folder / "bin").iterdir():
        if program.is_file() and not program.is_symlink():
            data = program.read_bytes()
            if data.startswith(b"#!") and bytes(folder) in data:
                program.write_bytes(data.replace(bytes(folder), bytes(final)))


def build_node(folder):
    for name in ("package.json", "package-lock.json"):
        shutil.copyfile(paths.DEV / name, folder / name)
    commands.run(
        ["npm", "ci", "--no-audit", "--no-fund", "--ignore-scripts"],
        "installing prettier and eslint",
        name="node",
        cwd=folder,
    )


def chromium():
    """Return the browser that Odoo's tests will take, None where there is none."""
    names = ("google-chrome", "chromium", "chromium-browser", "google-chrome-stable")
    return next((found for name in names if (found := shutil.which(name))), None)


def install_system_packages(profile):
    """Have what cannot live in the cache: PostgreSQL's server, for the tests a browser."""
    needs = (
        (profile != "lint" and not postgres.find_binaries(), "PostgreSQL's server", ["postgresql"]),
        (profile == "test" and not chromium(), "Chromium", ["chromium"]),
        (profile == "test" and not fake_clock.find_library(), "libfaketime", ["libfaketime"]),
        (profile != "demo" and not shutil.which("npm"), "Node.js with npm", ["nodejs", "npm"]),
    )
    wanted = [(purpose, packages) for missing, purpose, packages in needs if missing]
    if wanted:
        purposes = " and ".join(purpose for purpose, _packages in wanted)
        apt.install([name for _purpose, packages in wanted for name in packages], purposes)
