"""Run a program that may fail, and say in a sentence why it did."""

import os

from . import paths, processes
from .say import halt

_REASONS = (
    (
        ("No space left on device", "ENOSPC", "not enough free space"),
        "the disk is full: free some space, or set XDG_CACHE_HOME to a folder on a larger one",
    ),
    (
        (
            *("Temporary failure resolving", "Temporary failure in name resolution"),
            *("Could not resolve", "Could not connect", "Network is unreachable"),
            *("Failed to establish a new connection", "Connection refused"),
            *("Connection timed out", "No matching distribution found", "Failed to fetch"),
            *("ENOTFOUND", "ECONNREFUSED", "EAI_AGAIN", "ETIMEDOUT"),
        ),
        "there is no connection to the package servers: check the network, or the proxy settings",
    ),
    (("Permission denied", "are you root"), "the rights are missing"),
)


def run(command, what, *, name, env=None, cwd=None, user=None):
    """Run a command with its output in a log file; raise HaltError with the reason if it fails."""
    log = paths.logs() / f"{name}.log"
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("a") as file:
        file.write(f"\n$ {' '.join(map(str, command))}\n")
        file.flush()
        begin = file.tell()
        environment = {**os.environ, **(env or {})}
        status = processes.run(command, file, env=environment, cwd=cwd, user=user)
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
