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
        self.name, self.title, self.build, self.after = name, title, build, after
        self.pins = paths.short_hash(*pins)
        self.failure = None
        self.is_over = threading.Event()

    @property
    def folder(self):
        return paths.cache() / self.name

    @property
    def stamp(self):
        return paths.cache() / "stamps" / self.name

    def is_done(self):
        return self.folder.exists() and self.stamp.exists() and self.stamp.read_text() == self.pins

    def run_after(self, others):
        """Run when those that it needs are done, in a thread; not where anything has failed."""
        try:
            for name in self.after:
                if name in others:
                    others[name].is_over.wait()
            if not any(other.failure for other in others.values()):
                self.run()
        except BaseException as error:  # noqa: BLE001 - raised again in the main thread
            self.failure = error
        finally:
            self.is_over.set()

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


def run_steps(steps):
    """Run what is not done yet; steps that do not wait for each other run at the same time."""
    with locked():
        todo = {one.name: one for one in steps if not one.is_done()}
        free = shutil.disk_usage(paths.cache()).free
        if todo and free < FREE_BYTES:
            halt(
                f"only {free / 2**30:.1f} GB are free where {paths.cache()} lies and the set-up "
                "needs 3 GB: free some space, or set XDG_CACHE_HOME to a folder on a larger disk."
            )
        for one in todo.values():
            threading.Thread(target=one.run_after, args=[todo], daemon=True).start()
        while waiting := [one for one in todo.values() if not one.is_over.is_set()]:
            if not waiting[0].is_over.wait(20):
                step("still at work: " + ", ".join(one.title for one in waiting))
        for one in todo.values():
            if one.failure:
                raise one.failure
