"""Virtual environments and node tools with pinned versions."""

import importlib.util
import shutil
import sys

from . import apt, commands, paths, steps

PIP = ("-m", "pip", "install", "--disable-pip-version-check", "--no-input", "--retries", "3")


def requirements(name):
    return paths.DEV / f"requirements-{name}.txt"


def venv(name, title, *, dependencies=True):
    """Return the step that makes a virtual environment, with what its pins ask for or without."""

    def build(folder):
        if not importlib.util.find_spec("ensurepip"):
            apt.install(["python3-venv"], "Python's venv module")
        log = f"venv-{name}"
        command = [sys.executable, "-m", "venv", folder]
        commands.run(command, "making a virtual environment", name=log)
        alone = () if dependencies else ("--no-deps",)
        python = folder / "bin" / "python"
        commands.run(
            [python, *PIP, "--prefer-binary", *alone, "-r", requirements(name)],
            f"installing the Python packages of {requirements(name).name}",
            name=log,
        )
        _settle(folder, paths.cache() / f"venv-{name}")

    return steps.Step(f"venv-{name}", title, pins(name), build)


def apart(name, title):
    """Return the step that installs pinned packages, and nothing else, into a plain folder."""

    def build(folder):
        commands.run(
            [
                *(sys.executable, *PIP, "--no-compile", "--no-deps"),
                *("--target", folder, "-r", requirements(name)),
            ],
            f"installing the packages of {requirements(name).name}",
            name=name,
        )

    return steps.Step(name, title, pins(name), build)


def pins(name):
    return requirements(name).read_text(), sys.version_info[:2]


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
