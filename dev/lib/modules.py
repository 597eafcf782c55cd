"""The modules of this repository, read from their manifests."""

import hashlib

from . import family, paths
from .family import manifest
from .say import say

#: What only an Odoo of its own finds: see peer.py.
APART = "queue_job"
_NOT_LOADED = {".ci", ".git", "addons", "dev", "docs", "tests"}


def folders():
    """Return {module: folder}, the addon itself and those of addons/ that nobody replaces."""
    found = {paths.MODULE: paths.ROOT} if (paths.ROOT / "__manifest__.py").exists() else {}
    return found | family.bridges()


def installable(instance):
    """Return our modules whose dependencies are on the addons path, each after what it needs."""
    ours = folders()
    ordered, absent = [], {}

    def visit(name):
        if name in ordered:
            return True
        if name not in ours:
            return any((folder / name).is_dir() for folder in instance.addons_path)
        missing = [other for other in manifest(ours[name])["depends"] if not visit(other)]
        if missing:
            absent[name] = missing
            return False
        ordered.append(name)
        return True

    for name in ours:
        visit(name)
    for name, missing in absent.items():
        if missing != [APART]:
            say(f"{name} is left out: it needs {', '.join(missing)}, which is not here")
    return ordered


def fingerprint():
    """Return a text that changes when a file changes that Odoo loads from our modules."""
    digest = hashlib.sha256()
    for folder in folders().values():
        for path in sorted(folder.rglob("*.*")):
            inside = path.relative_to(folder).parts
            if path.is_file() and inside[0] not in _NOT_LOADED:
                digest.update(str(path).encode() + path.read_bytes())
    return digest.hexdigest()
