"""Odoo 19.0: the person's own, or the Debian package unpacked into the cache."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

from . import apt, commands, paths
from .say import halt

_PYTHON = "usr/lib/python3/dist-packages"
_SERIES = "import runpy, sys; print(runpy.run_path(sys.argv[1])['series'])"
_WHERE = "import odoo.release as r; print(r.series); print(r.__file__)"


class Odoo:
    """An Odoo to run: its start script and the folder of its package `odoo`."""

    def __init__(self, script, package, extra_addons=()):
        self.script = Path(script)
        self.package = Path(package)
        self.addons = [self.package / "addons", *map(Path, extra_addons)]

    @property
    def python_path(self):
        """Return a folder with this `odoo` and nothing else to import."""
        folder = paths.cache() / "odoo-path" / paths.short_hash(self.package)
        paths.link(folder / "odoo", self.package)
        return folder


def find():
    """Return the Odoo that ODOO_HOME names or PATH has, None where it must be fetched."""
    home = os.environ.get("ODOO_HOME")
    if home:
        return _from_home(Path(home).expanduser())
    script = shutil.which("odoo")
    return _from_script(script) if script else None


def current():
    """Return the Odoo to use, once the set-up is complete."""
    folder = paths.cache() / "odoo"
    return find() or Odoo(folder / "usr/bin/odoo", folder / _PYTHON / "odoo")


def _from_home(home):
    package = home / "odoo"
    script = next((home / name for name in ("odoo-bin", "odoo") if (home / name).is_file()), None)
    if not script or not (package / "release.py").exists():
        halt(
            f"ODOO_HOME is {home} and there is no Odoo: set it to the folder of an Odoo 19.0 "
            "source tree (the one that holds odoo-bin), or unset it to have Odoo fetched."
        )
    series = _ask([sys.executable], _SERIES, str(package / "release.py"))
    if series != ["19.0"]:
        halt(
            f"ODOO_HOME is {home} and holds Odoo {' '.join(series)}: this addon needs Odoo 19.0. "
            "Set ODOO_HOME to such a source tree, or unset it to have Odoo fetched."
        )
    return Odoo(script, package, [home / "addons"] if (home / "addons").is_dir() else [])


def _from_script(script):
    """Return the Odoo of an `odoo` on the PATH, None when it is not 19.0."""
    first = Path(script).read_bytes().split(b"\n", 1)[0].decode(errors="replace")
    if not first.startswith("#!") or "python" not in first:
        return None
    answer = _ask(first[2:].split(), _WHERE)
    is_it = len(answer) == 2 and answer[0] == "19.0"
    return Odoo(script, Path(answer[1]).parent) if is_it else None


def _ask(python, code, *arguments):
    command = [*python, "-c", code, *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False).stdout.split()


def pins():
    lines = (paths.DEV / "debian-packages.txt").read_text().splitlines()
    return [line for line in lines if line and not line.startswith("#")]


def build(folder):
    """Unpack the package, what it links to, and the icons of the version that it expects."""
    apt.UnstableSource(folder / ".apt").unpack(pins(), folder)
    addons = folder / _PYTHON / "odoo" / "addons"
    _unpack_icons(folder / ".icons", addons)
    # The package leaves this file out and still bundles it: without it no asset is built.
    stub = addons / "mail/static/lib/selfie_segmentation/selfie_segmentation.js"
    stub.parent.mkdir(parents=True, exist_ok=True)
    stub.touch()
    links = [path for path in (addons / "web").rglob("*") if path.is_symlink()]
    if not all(path.exists() for path in links):
        halt("the packages of Odoo do not fit together: run the command again later.")
    shutil.rmtree(folder / ".apt")


def _unpack_icons(icons, addons):
    """Put Font Awesome 4.7 in place of the links to 7, whose fonts show blank icons."""
    icons.mkdir()

    def run(*command):
        commands.run(command, "fetching Font Awesome", name="odoo", cwd=icons)

    if "4.7.0" in apt.candidate("fonts-font-awesome"):
        run("apt-get", "download", "fonts-font-awesome")
        run("dpkg", "-x", next(icons.glob("*.deb")), icons)
    else:
        run("npm", "pack", "font-awesome@4.7.0")
        shutil.unpack_archive(next(icons.glob("*.tgz")), icons)
    fonts = {font.name: font for font in icons.rglob("*.*") if font.is_file()}
    for place in (addons / "web/static").rglob("fontawesome/fonts/*"):
        if place.is_symlink():
            place.unlink()
            shutil.copyfile(fonts[place.name], place)
    shutil.rmtree(icons)
