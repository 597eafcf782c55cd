"""Steps of a set-up that are done once, and done again when what they depend on changes."""

import fcntl
import os
import shutil
import threading
import time
from contextlib import contextmanager

from . import paths
from .say import halt, say, step

FREE_BYTES = 3 * 2**30


class Step:
    """Make one folder of the cache: build(folder) fills a temporary one, renamed when complete."""

    def __init__(self, name, title, pins, build, after=()):
        self.name = name
        self.title = title
        self.pins = paths.short_hash(*pins)
        self.build = build
        self.after = after
        self.failure = None

    @property
    def folder(self):
        return paths.cache() / self.name

    @property
    def stamp(self):
        return paths.cache() / "stamps" / self.name

    def is_done(self):
        return self.folder.exists() and self.stamp.exists() and self.stamp.read_text() == self.pins

    def run(self):
        begin = time.monotonic()
        step(f"{self.title} …")
        self.stamp.unlink(missing_ok=True)
        for leftover in paths.cache().glob(f".{self.name}.*"):
            shutil.rmtree(leftover, ignore_errors=True)
        folder = paths.cache() / f".{self.name}.{os.getpid()}"
        folder.mkdir(parents=True)
        self.build(folder)
        shutil.rmtree(self.folder, ignore_errors=True)
        folder.rename(self.folder)
        self.stamp.parent.mkdir(exist_ok=True)
        self.stamp.write_text(self.pins)
        step(f"{self.title}: done in {time.monotonic() - begin:.0f} s")


@contextmanager
def locked():
    """Let one set-up at a time change the cache."""
    paths.cache().mkdir(parents=True, exist_ok=True)
    with (paths.cache() / "lock").open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            say("Another set-up is at work in the same cache: waiting for it.")
            fcntl.flock(file, fcntl.LOCK_EX)
        yield


def check_disk():
    free = shutil.disk_usage(paths.cache()).free
    if free < FREE_BYTES:
        halt(
            f"only {free / 2**30:.1f} GB are free where {paths.cache()} lies and the set-up needs "
            "3 GB: free some space, or set XDG_CACHE_HOME to a folder on a larger disk."
        )


def run_steps(steps):
    """Run what is not done yet; steps that do not wait for each other run at the same time."""
    with locked():
        todo = [one for one in steps if not one.is_done()]
        if not todo:
            return
        check_disk()
        finished = {one.name: threading.Event() for one in todo}

        def work(one):
            try:
                for name in one.after:
                    if name in finished:
                        finished[name].wait()
                if not any(other.failure for other in todo):
                    one.run()
            except BaseException as error:  # noqa: BLE001 - raised again in the main thread
                one.failure = error
            finally:
                finished[one.name].set()

        threads = [threading.Thread(target=work, args=[one], daemon=True) for one in todo]
        for thread in threads:
            thread.start()
        _wait(threads, todo, finished)
        failures = [one.failure for one in todo if one.failure]
        if failures:
            raise failures[0]


def _wait(threads, todo, finished):
    """Say every 20 seconds what is still at work."""
    while any(thread.is_alive() for thread in threads):
        deadline = time.monotonic() + 20
        for thread in threads:
            thread.join(max(0, deadline - time.monotonic()))
        waiting = [one.title for one in todo if not finished[one.name].is_set()]
        if waiting:
            step("still at work: " + ", ".join(waiting))
