"""Start programs, know them again by a mark, stop them with all that they started."""

import atexit
import errno
import os
import random
import signal
import socket
import subprocess
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from .say import halt

#: In the environment of what a place (a folder) has started, and of all that this starts in turn.
MARK = "LLM_PLACE"
#: Below those that Linux gives to outgoing connections: what is free among these is taken in the
#: moment before a server listens there. Above one that browsers open no page at.
PORTS = range(11_000, 30_000)
_children = set()
_ending = threading.Event()


def wait_for(condition, seconds, interval=0.1):
    """Return the first true answer of condition(), or its last one when time is up."""
    deadline = time.monotonic() + seconds
    while not (answer := condition()) and time.monotonic() < deadline:
        time.sleep(interval)
    return answer


class Process:
    """A program that we started: the leader of a session."""

    def __init__(self, popen):
        self.popen = popen
        self.pid = popen.pid
        self.started = _started(popen.pid)

    def is_alive(self):
        return self.popen.poll() is None

    def send(self, signum):
        self.popen.send_signal(signum)

    def stop(self, signum=signal.SIGTERM, seconds=20):
        """Ask it to end; after some seconds make it, and whatever it has left behind."""
        self.send(signum)
        wait_for(lambda: not self.is_alive(), seconds, 0.05)
        self.kill()

    def kill(self):
        """Kill it and every process of its session, as a crash of the machine would.

        Itself first: a server whose children are killed starts others.
        """
        self.send(signal.SIGKILL)
        wait_for(lambda: not self.is_alive(), 10, 0.02)
        wait_for(lambda: not _kill(self._members()), 10, 0.02)

    def _members(self):
        """Return the others of its session; none where its pid is another program now."""
        if _started(self.pid) not in {None, self.started}:
            return []
        return [
            pid
            for pid in _pids()
            if pid != self.pid and (fields := _stat(pid)) and fields[0] != "Z"
            if int(fields[3]) == self.pid and int(fields[19]) >= (self.started or 0)
        ]

    def listens_on(self, port):
        """Tell whether it is this program, or a child of it, that answers at a port."""
        wanted = _listeners(port)
        for pid in (self.pid, *self._members()):
            for link in Path(f"/proc/{pid}/fd").glob("*"):
                try:
                    if str(link.readlink()) in wanted:
                        return True
                except OSError:
                    continue  # it was closed meanwhile
        return False


def _popen(command, file, *, env=None, user=None, cwd=None, stdin=subprocess.DEVNULL):
    return Process(
        subprocess.Popen(
            [str(part) for part in command],
            stdin=stdin,
            stdout=file,
            stderr=subprocess.STDOUT,
            env=env,
            cwd=cwd,
            start_new_session=True,
            user=user,
            group=user,
            extra_groups=[] if user else None,
        )
    )


def start(command, log, **options):
    """Start a program in a session of its own, its output appended to a log file."""
    with Path(log).open("ab") as file:
        return _popen(command, file, **options)


def run(command, file, *, seconds=None, **options):
    """Run a program to its end, its output in an open file; it ends with us, or when time is up.

    :return: its status, -1 when its time was up
    """
    if _ending.is_set():
        halt("it was not begun: everything is being stopped")
    process = _popen(command, file, **options)
    _children.add(process)
    try:
        if _ending.is_set():  # who ends the others may not have seen this one
            process.kill()
        return process.popen.wait(seconds)
    except subprocess.TimeoutExpired:
        process.stop()
        return -1
    finally:
        process.kill()
        _children.discard(process)


@atexit.register
def _stop_children():
    """End what threads of ours still wait for, before the folders they write to are removed."""
    _ending.set()
    for process in list(_children):
        process.kill()


def run_together(act, items, width):
    """Call `act` with each of the items, in threads, at most `width` at a time.

    Where one raises, or this is stopped, the programs that the others run are ended, too: leaving
    a pool of threads waits for what these wait for.
    """
    pool = ThreadPoolExecutor(width)
    try:
        list(pool.map(act, items))
    except BaseException:
        pool.shutdown(wait=False, cancel_futures=True)
        _stop_children()
        raise
    pool.shutdown()


def mark(place):
    """Have all that is started from now on bear the mark of a place, and those it has already."""
    places = [*filter(None, os.environ.get(MARK, "").split(os.pathsep)), str(place)]
    os.environ[MARK] = os.pathsep.join(dict.fromkeys(places))


def marked(place):
    """Return what a place has started, or what this has, whoever its parent is now."""
    found = []
    for pid in _pids():
        try:
            variables = Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
        except OSError:
            continue  # it has ended, or is somebody else's
        for variable in variables:
            name, _equal, value = variable.partition(b"=")
            if name == MARK.encode() and os.fsencode(place) in value.split(os.pathsep.encode()):
                found.append(pid)
    return found


def stop_marked(place):
    """Ask all that bears the mark of a place to end, PostgreSQL last; return how many that were."""
    found = marked(place)
    databases = [pid for pid in found if _name(pid) == "postgres"]
    others = set(found).difference(databases)
    _kill(others, signal.SIGTERM)
    wait_for(lambda: not others.intersection(marked(place)), 20, 0.05)
    _kill(databases, signal.SIGINT)  # which ends its sessions
    wait_for(lambda: not marked(place), 20, 0.05)
    end_marked(place)
    return len(found)


def end_marked(place):
    """End all that bears the mark of a place: PostgreSQL so that it gives back its memory."""
    _kill([pid for pid in marked(place) if _name(pid) == "postgres"], signal.SIGQUIT)
    wait_for(lambda: all(_name(pid) != "postgres" for pid in marked(place)), 5, 0.05)
    wait_for(lambda: not _kill(marked(place)), 10, 0.05)


def _kill(pids, signum=signal.SIGKILL):
    for pid in pids:
        try:
            os.kill(pid, signum)
        except ProcessLookupError:
            continue
    return pids


def free_port():
    """Return a port that is free, and that no connection is given before somebody listens on it.

    :raise OSError: where of a hundred ports each is taken
    """
    for port in random.SystemRandom().sample(PORTS, 100):
        if port_is_free(port):
            return port
    raise OSError(errno.EADDRINUSE, f"no port is free of {PORTS.start} to {PORTS.stop}")


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
    lines = Path("/proc/net/tcp").read_text(encoding="utf-8").splitlines()[1:]
    return {
        f"socket:[{fields[9]}]"
        for fields in map(str.split, lines)
        if fields[3] == "0A" and int(fields[1].rpartition(":")[2], 16) == port
    }


def _pids():
    return [int(entry.name) for entry in Path("/proc").iterdir() if entry.name.isdigit()]


def _stat(pid):
    try:
        text = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8")
    except OSError:
        return None
    return text.rpartition(")")[2].split()


def _name(pid):
    try:
        return Path(f"/proc/{pid}/comm").read_text(encoding="utf-8").strip()
    except OSError:
        return ""


def _started(pid):
    """Return when a process started, None when it has ended: a pid alone may be used again."""
    fields = _stat(pid)
    return int(fields[19]) if fields and fields[0] != "Z" else None
