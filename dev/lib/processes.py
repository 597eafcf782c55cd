"""Start programs, know them again by pid and start time, and stop only those."""

import atexit
import json
import os
import signal
import socket
import subprocess
import threading
from pathlib import Path

from .commands import wait_for


class Process:
    """A program that we started, perhaps in an earlier run."""

    def __init__(self, pid, started, popen=None):
        self.pid = pid
        self.started = started
        self.popen = popen

    def is_alive(self):
        if self.popen:
            return self.popen.poll() is None
        return _started(self.pid) == self.started

    def send(self, signum):
        if self.is_alive():
            os.kill(self.pid, signum)

    def stop(self, signum=signal.SIGTERM, seconds=20):
        """Ask it to end; after some seconds, make it."""
        self.send(signum)
        if not wait_for(lambda: not self.is_alive(), seconds, 0.05):
            self.kill()

    def kill(self):
        """Kill it and every process of its session, as a crash of the machine would."""
        for pid in _session_members(self.pid):
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                continue
        self.send(signal.SIGKILL)
        wait_for(lambda: not self.is_alive(), 10, 0.02)

    def listens_on(self, port):
        """Tell whether it is this program, or a child of it, that answers at a port."""
        wanted = _listeners(port)
        for pid in (self.pid, *_session_members(self.pid)):
            for link in Path(f"/proc/{pid}/fd").glob("*"):
                try:
                    if str(link.readlink()) in wanted:
                        return True
                except OSError:
                    continue  # it was closed meanwhile
        return False

    def as_dict(self):
        return {"pid": self.pid, "started": self.started}


def start(command, log, *, env=None, user=None, cwd=None):
    """Start a program in a session of its own, its output appended to a log file."""
    with Path(log).open("ab") as file:
        popen = subprocess.Popen(
            [str(part) for part in command],
            stdin=subprocess.DEVNULL,
            stdout=file,
            stderr=subprocess.STDOUT,
            env=env,
            cwd=cwd,
            start_new_session=True,
            user=user,
            group=user,
            extra_groups=[] if user else None,
        )
    return Process(popen.pid, _started(popen.pid), popen)


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def port_is_free(port):
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True


def _listeners(port):
    """Return the sockets that listen on a port, as /proc names them."""
    found = set()
    for line in Path("/proc/net/tcp").read_text(encoding="utf-8").splitlines()[1:]:
        fields = line.split()
        if fields[3] == "0A" and int(fields[1].rpartition(":")[2], 16) == port:
            found.add(f"socket:[{fields[9]}]")
    return found


def _stat(pid):
    try:
        text = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8")
    except OSError:
        return None
    return text.rpartition(")")[2].split()


def _started(pid):
    """Return when a process started, None when it has ended: a pid alone may be used again."""
    fields = _stat(pid)
    return int(fields[19]) if fields and fields[0] != "Z" else None


def _session_members(session):
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and int(entry.name) != session:
            fields = _stat(entry.name)
            if fields and int(fields[3]) == session:
                yield int(entry.name)


class Ledger:
    """A file that names the processes of a run, so that a later run can stop what was left."""

    def __init__(self, path):
        self.path = Path(path)
        self.lock = threading.Lock()

    def load(self):
        try:
            return json.loads(self.path.read_text())
        except (OSError, ValueError):
            return {}

    def save(self, entries):
        self.path.parent.mkdir(parents=True, exist_ok=True)
        temporary = self.path.with_suffix(f".{os.getpid()}")
        temporary.write_text(json.dumps(entries, indent=1))
        temporary.replace(self.path)

    def add(self, name, process, **facts):
        with self.lock:
            self.save({**self.load(), name: {**process.as_dict(), **facts}})

    def remove(self, name):
        with self.lock:
            entries = self.load()
            entries.pop(name, None)
            self.save(entries)

    def process(self, name):
        """Return the named process if it is alive."""
        entry = self.load().get(name)
        process = entry and Process(entry["pid"], entry["started"])
        return process if process and process.is_alive() else None

    def stop_all(self):
        """Stop in the reverse order of starting; return the names of what was running."""
        stopped = []
        for name in reversed(list(self.load())):
            process = self.process(name)
            if process and name.startswith("run-"):
                process.kill()  # its database goes too
            elif process:
                process.stop(signal.SIGINT if name == "postgres" else signal.SIGTERM)
                stopped.append(name)
        self.path.unlink(missing_ok=True)
        return stopped


def self_process():
    return Process(os.getpid(), _started(os.getpid()))


_children = set()


def run(command, file, *, env=None, seconds=None, ledger=None, stdin=subprocess.DEVNULL):
    """Run a program to its end, its output in an open file; it ends with us, or when time is up."""
    popen = subprocess.Popen(
        [str(part) for part in command],
        stdin=stdin,
        stdout=file,
        stderr=subprocess.STDOUT,
        env=env,
        start_new_session=True,
    )
    process = Process(popen.pid, _started(popen.pid), popen)
    _children.add(process)
    if ledger:
        ledger.add(f"run-{process.pid}", process)
    try:
        return popen.wait(seconds)
    except subprocess.TimeoutExpired:
        process.stop()
        return -1
    finally:
        process.kill()
        _children.discard(process)
        if ledger:
            ledger.remove(f"run-{process.pid}")


@atexit.register
def _stop_children():
    for process in list(_children):
        process.kill()
