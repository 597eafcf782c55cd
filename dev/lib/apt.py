"""Debian packages: installed on the machine, or only unpacked into a folder."""

import os
import shutil
import subprocess
import threading
from pathlib import Path

from . import commands
from .say import halt, step

KEYRING = Path("/usr/share/keyrings/debian-archive-keyring.gpg")
_lock = threading.Lock()  # apt-get on the machine's own lists: one at a time
_updated = []


def install(packages, purpose):
    """Install packages on the machine, where apt and the rights for it are there."""
    wanted = " ".join(packages)
    if not shutil.which("apt-get"):
        halt(
            f"{purpose} is missing and this machine has no apt-get: install it with the "
            f"machine's own package manager (in Debian the packages are: {wanted})."
        )
    sudo = ["sudo", "-n"] if os.geteuid() else []
    if sudo and not (shutil.which("sudo") and not _call([*sudo, "true"]).returncode):
        halt(
            f"{purpose} is missing and installing it needs administrator rights: have it "
            f"installed with 'apt-get install {wanted}', then run the command again."
        )
    # RUNLEVEL=1 keeps a new database server from being started beside our own.
    prefix = [*sudo, "env", "DEBIAN_FRONTEND=noninteractive", "RUNLEVEL=1"]
    with _lock:
        update(prefix)
        step(f"apt-get install {wanted}")
        commands.run(
            [*prefix, "apt-get", "install", "-y", "--no-install-recommends", *packages],
            f"installing {purpose}",
            name="apt",
        )


def update(prefix=()):
    if not _updated:  # once per run is enough
        commands.run([*prefix, "apt-get", "update"], "reading the package lists", name="apt")
        _updated.append(True)


def _call(command):
    return subprocess.run(command, capture_output=True, text=True, check=False)


class UnstableSource:
    """Debian's unstable suite, read into a private folder; the machine's own apt is untouched."""

    def __init__(self, folder):
        self.folder = folder
        for name in ("lists/partial", "cache/archives/partial", "debs"):
            (folder / name).mkdir(parents=True)
        (folder / "sources.list").write_text(f"deb [signed-by={KEYRING}] {_site()} sid main\n")
        self.options = [
            f"-oDir::Etc::sourcelist={folder / 'sources.list'}",
            "-oDir::Etc::sourceparts=/dev/null",
            "-oDir::Etc::preferencesparts=/dev/null",
            f"-oDir::State::Lists={folder / 'lists'}",
            f"-oDir::Cache={folder / 'cache'}",
            "-oAcquire::Languages=none",
            "-oAPT::Sandbox::User=",
        ]

    def unpack(self, pins, target):
        """Fetch the packages (name or name=version) and unpack them into target."""

        def run(what, *command):
            commands.run(command, what, name="odoo", cwd=self.folder / "debs")

        run("reading Debian's unstable suite", "apt-get", *self.options, "update")
        for pin in pins:
            if _call(["apt-cache", *self.options, "show", pin]).returncode:
                step(f"{pin} has left the suite: taking the newest")
                pin = pin.partition("=")[0]
            run(f"downloading {pin}", "apt-get", *self.options, "download", pin)
        for deb in sorted((self.folder / "debs").glob("*.deb")):
            run(f"unpacking {deb.name}", "dpkg", "-x", deb, target)


def _site():
    """Return the server that the machine itself takes its Debian packages from."""
    if not (shutil.which("apt-get") and shutil.which("dpkg") and KEYRING.exists()):
        halt(
            "Odoo 19 is fetched as a Debian package and this machine is no Debian: install "
            "Odoo 19.0 yourself and set ODOO_HOME to the folder that holds odoo-bin."
        )
    command = ["apt-get", "indextargets", "--format", "$(ORIGIN) $(LABEL) $(SITE)"]
    for attempt in range(2):
        lines = _call([*command, "Identifier: Packages"]).stdout.splitlines()
        if sites := [line.split()[-1] for line in lines if "Debian Debian " in line]:
            return sites[0]
        if not attempt and not os.geteuid():
            with _lock:
                update()
    return halt(
        "no Debian package server is configured on this machine: run 'apt-get update' as "
        "administrator, or install Odoo 19.0 yourself and set ODOO_HOME to its folder."
    )


def candidate(package):
    """Return the version that the machine's own suite offers, or ''."""
    lines = _call(["apt-cache", "policy", package]).stdout.splitlines()
    return next((line.split()[-1] for line in lines if "Candidate:" in line), "")
