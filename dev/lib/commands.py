"""Run a program that may fail, and say in a sentence why it did."""

import atexit
import os
import signal
import subprocess
import threading
import time

from . import paths
from .say import halt

_REASONS = (
    (
        ("No space left on device", "ENOSPC", "not enough free space"),
        "the disk is full: free some space, or set XDG_CACHE_HOME to a folder on a larger one",
    ),
    (
        (
            "Temporary failure resolving",
            "Temporary failure in name resolution",
            "Could not resolve",
            "Could not connect",
            "Network is unreachable",
            "Failed to establish a new connection",
            "Connection refused",
            "Connection timed out",
            "No matching distribution found",
            "Failed to fetch",
            "ENOTFOUND",
            "ECONNREFUSED",
            "EAI_AGAIN",
            "ETIMEDOUT",
        ),
        "there is no connection to the package servers: check the network, or the proxy settings",
    ),
    (
        ("Permission denied", "are you root"),
        "the rights are missing",
    ),
)
_running = set()
_stopping = threading.Event()


@atexit.register
def _stop_running():
    """End what threads of ours still wait for, before the folders they write to are removed."""
    _stopping.set()
    for process in list(_running):
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def run(command, what, *, name, env=None, cwd=None, user=None):
    """Run a command with its output in a log file; raise HaltError with the reason if it fails."""
    if _stopping.is_set():
        halt(f"{what} was not begun: the set-up was stopped")
    log = paths.logs() / f"{name}.log"
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("a") as file:
        file.write(f"\n$ {' '.join(map(str, command))}\n")
        file.flush()
        begin = file.tell()
        process = subprocess.Popen(
            [str(part) for part in command],
            stdin=subprocess.DEVNULL,
            stdout=file,
            stderr=subprocess.STDOUT,
            env={**os.environ, **(env or {})},
            cwd=cwd,
            user=user,
            group=user,
            extra_groups=[] if user else None,
            start_new_session=True,
        )
        _running.add(process)
        status = process.wait()
        _running.discard(process)
    if status:
        with log.open(errors="replace") as file:
            file.seek(begin)
            output = file.read()
        halt(f"{what} failed: {_reason(output)}. Then run the command again ({log}).")


def _reason(output):
    for signs, reason in _REASONS:
        if any(sign in output for sign in signs):
            return reason
    lines = [line for line in output.splitlines() if line.strip()]
    return f"see the log; its last line is: {lines[-1].strip()[:200]}" if lines else "see the log"


def wait_for(condition, seconds, interval=0.1):
    """Return the first true answer of condition(), or its last one when time is up."""
    deadline = time.monotonic() + seconds
    while not (answer := condition()) and time.monotonic() < deadline:
        time.sleep(interval)
    return answer
