"""Wheels of our modules, named and laid out as OCA's are: Odoo finds what pip installs."""

import json
import shutil
import sys
import tempfile
import tomllib
import zipfile
from pathlib import Path

from . import commands, modules, paths

#: For the modules of addons/, which all look the same; the addon itself has a file of its own.
_PYPROJECT = """\
[build-system]
requires = ["hatchling"]
build-backend = "hatchling.build"

[project]
name = {distribution}
version = {version}
description = {summary}
readme = "README.md"
requires-python = ">=3.11"
license = "LGPL-3.0-only"
dependencies = {dependencies}
classifiers = ["Framework :: Odoo", "Framework :: Odoo :: 19.0", "Programming Language :: Python"]

[tool.hatch.build.targets.wheel]
include = ["*"]
exclude = [".*", "__pycache__", "/pyproject.toml"]

[tool.hatch.build.targets.wheel.sources]
"" = {target}
"""


def requirements(values):
    """Return what a package needs that pip can find.

    Addons are left to the manifest, which Odoo reads: the family's are in no registry, so pip
    could find nothing but somebody else's package of that name.
    """
    return ["odoo==19.0.*", *values.get("external_dependencies", {}).get("python", ())]


def left_out():
    """Return the entries of the root that are in no wheel of the addon, besides hidden ones."""
    project = tomllib.loads((paths.ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    names = project["tool"]["hatch"]["build"]["targets"]["wheel"]["exclude"]
    return [name.removeprefix("/") for name in names if name.startswith("/")]


def build(target):
    """Build the wheel of each module into a folder, and return them by the module's name."""
    target.mkdir(parents=True, exist_ok=True)
    found = {}
    for name, source in modules.folders().items():
        stem = f"odoo_addon_{name}-*.whl"
        for old in target.glob(stem):
            old.unlink()
        with tempfile.TemporaryDirectory() as place:
            if not (source / "pyproject.toml").exists():
                source = shutil.copytree(
                    source, Path(place) / name, ignore=shutil.ignore_patterns("__pycache__")
                )
                (source / "pyproject.toml").write_text(pyproject(name, source), encoding="utf-8")
            _run(
                *(f"building the wheel of {name}", paths.venv_python("wheel"), "-m", "hatchling"),
                *("build", "-t", "wheel", "-d", target),
                cwd=source,
            )
        [found[name]] = target.glob(stem)
    return found


def pyproject(name, source):
    values = modules.manifest(source)
    told = {
        "distribution": f"odoo-addon-{name}",
        "version": values["version"],
        "summary": values.get("summary") or values["name"],
        "dependencies": requirements(values),
        "target": f"odoo/addons/{name}",
    }
    # A text, or a list of texts, is written in TOML as in JSON.
    return _PYPROJECT.format(**{key: json.dumps(value) for key, value in told.items()})


def install(wheels, folder):
    """Have pip install wheels into a folder of their own: from no registry, and nothing else."""
    _run(
        *("installing the wheels", sys.executable, "-m", "pip", "install"),
        *("--disable-pip-version-check", "--no-input", "--no-deps", "--no-index", "--no-compile"),
        *("--target", folder, *wheels),
    )


def _run(what, *command, cwd=None):
    commands.run(command, what, name="wheel", cwd=cwd, env={"PYTHONDONTWRITEBYTECODE": "1"})


def contents(wheel):
    """Return the names of the files that a wheel installs."""
    with zipfile.ZipFile(wheel) as file:
        return set(file.namelist())
