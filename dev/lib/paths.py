"""Where things are. Nothing is kept inside the repository: everything made goes to the cache."""

import hashlib
import os
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
DEV = ROOT / "dev"
MODULE = "llm_generate_job"


def short_hash(*parts):
    return hashlib.sha256("\0".join(map(str, parts)).encode()).hexdigest()[:10]


def cache():
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base).absolute() / MODULE


def state():
    """What belongs to this checkout: databases, logs, pids."""
    return cache() / "state" / short_hash(ROOT)


def logs():
    return cache() / "logs"


def venv_python(name):
    return cache() / f"venv-{name}" / "bin" / "python"


def node_bin(name):
    return cache() / "node" / "node_modules" / ".bin" / name


def link(place, target):
    """Have a link to a folder."""
    if not place.is_symlink() or place.readlink() != target:
        place.parent.mkdir(parents=True, exist_ok=True)
        temporary = place.with_name(f".{os.getpid()}")
        temporary.symlink_to(target)
        temporary.replace(place)


def module_link():
    """Return a folder for the addons path in which this checkout is called like the module."""
    link(state() / "addons" / MODULE, ROOT)
    return state() / "addons"
