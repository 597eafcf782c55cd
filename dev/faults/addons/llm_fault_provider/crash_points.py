"""Let this process be killed at one step of one job, once.

LLM_FAULT_CRASHES names a folder. Its file `armed` says where the next crash is: the step, the
provider, and whether it is a job that already runs at the provider. The process that comes there
first renames the file, which works once, and kills itself.
"""

import json
import os
import signal
from pathlib import Path

VARIABLE = "LLM_FAULT_CRASHES"
FOLDER = os.environ.get(VARIABLE)


def is_armed(step, group, *, polling=False):
    """Return whether the next crash is to be here."""
    try:
        armed = json.loads((Path(FOLDER) / "armed").read_text()) if FOLDER else None
    except FileNotFoundError:
        return False
    return armed == {"step": step, "group": group, "polling": polling}


def crash(step, group, *, polling=False):
    """Kill this process as the kernel does when memory is short, if that is to be here."""
    if not is_armed(step, group, polling=polling):
        return
    folder = Path(FOLDER)
    try:
        (folder / "armed").rename(folder / f"fired.{step}.{group}.{os.getpid()}")
    except FileNotFoundError:
        return  # another thread or process was faster
    os.kill(os.getpid(), signal.SIGKILL)


def has_fault(name):
    """Return whether a lasting fault is ordered: a file of this name lies in the folder."""
    return bool(FOLDER) and (Path(FOLDER) / name).exists()
