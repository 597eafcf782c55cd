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


def install(packages, purpose):
    """Install packages on the machine, where apt and the rights for it are there."""
    wanted = " ".join(packages)
    if not shutil.which("apt-get"):
        halt(
            f"{purpose} is missing and this machine has no apt-get: install it with the "
            f"machine's own package manager (in Debian the packages are: {wanted})."
        )
    prefix = []
    if os.geteuid():
        prefix = ["sudo", "-n"]
        if not shutil.which("sudo") or subprocess.call(
            ["sudo", "-n", "true"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        ):
            halt(
                f"{purpose} is missing and installing it needs administrator rights: have it "
                f"installed with 'apt-get install {wanted}', then run the command again."
            )
    # RUNLEVEL=1 keeps a new database server from being started beside our own.
    prefix += ["env", "DEBIAN_FRONTEND=noninteractive", "RUNLEVEL=1"]
    with _lock:
        update(prefix)
        step(f"apt-get install {wanted}")
        commands.run(
            [*prefix, "apt-get", "install", "-y", "--no-install-recommends", *packages],
            f"installing {purpose}",
            name="apt",
        )


_updated = False


def update(prefix=()):
    global _updated  # noqa: PLW0603 - once per run is enough
    if not _updated:
        commands.run([*prefix, "apt-get", "update"], "reading the package lists", name="apt")
        _updated = True


class UnstableSource:
    """Debian's unstable suite, read into a private folder; the machine's own apt is untouched."""

    def __init__(self, folder):
        self.folder = folder
        for name in ("lists/partial", "cache/archives/partial", "debs"):
            (folder / name).mkdir(parents=True)
        (folder / "sources.list").write_text(f"deb [signed-by={KEYRING}] {self._site()} sid main\n")
        self.options = [
            f"-oDir::Etc::sourcelist={folder / 'sources.list'}",
            "-oDir::Etc::sourceparts=/dev/null",
            "-oDir::Etc::preferencesparts=/dev/null",
            f"-oDir::State::Lists={folder / 'lists'}",
            f"-oDir::Cache={folder / 'cache'}",
            "-oAcquire::Languages=none",
            "-oAPT::Sandbox::User=",
        ]

    def _site(self):
        """Return the server that the machine itself takes its Debian packages from."""
        if not (shutil.which("apt-get") and shutil.which("dpkg") and KEYRING.exists()):
            halt(
                "Odoo 19 is fetched as a Debian package and this machine is no Debian: install "
                "Odoo 19.0 yourself and set ODOO_HOME to the folder that holds odoo-bin."
            )
        command = ["apt-get", "indextargets", "--format", "$(ORIGIN) $(LABEL) $(SITE)"]
        for attempt in range(2):
            output = subprocess.run(
                [*command, "Identifier: Packages"], capture_output=True, text=True, check=False
            ).stdout
            sites = [line.split()[-1] for line in output.splitlines() if "Debian Debian " in line]
            if sites:
                return sites[0]
            if not attempt and not os.geteuid():
                with _lock:
                    update()
        return halt(
            "no Debian package server is configured on this machine: run 'apt-get update' as "
            "administrator, or install Odoo 19.0 yourself and set ODOO_HOME to its folder."
        )

    def unpack(self, pins, target):
        """Fetch the packages (name or name=version) and unpack them into target."""
        run = commands.run
        run(
            ["apt-get", *self.options, "update"],
            "reading the lists of Debian's unstable suite",
            name="odoo",
        )
        for pin in pins:
            self._download(pin if self._has(pin) else pin.partition("=")[0])
        for deb in sorted((self.folder / "debs").glob("*.deb")):
            run(["dpkg", "-x", deb, target], f"unpacking {deb.name}", name="odoo")

    def _has(self, pin):
        """Tell whether a pinned version is still in the suite."""
        command = ["apt-cache", *self.options, "show", pin]
        found = not subprocess.run(command, capture_output=True, check=False).returncode
        if not found:
            step(f"{pin} has left the suite: taking the newest")
        return found

    def _download(self, pin):
        commands.run(
            ["apt-get", *self.options, "download", pin],
            f"downloading {pin}",
            name="odoo",
            cwd=self.folder / "debs",
        )


def candidate(package):
    """Return the version that the machine's own suite offers, or ''."""
    output = subprocess.run(
        ["apt-cache", "policy", package], capture_output=True, text=True, check=False
    ).stdout
    versions = [line.split()[-1] for line in output.splitlines() if "Candidate:" in line]
    return versions[0] if versions and versions[0] != "(none)" else ""
