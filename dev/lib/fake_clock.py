"""A clock that can be set for some processes, as nobody may set the machine's."""

import os
from pathlib import Path

from .say import halt


def find_library():
    """Return the library that tells programs another time, None where it is not installed."""
    folders = (Path("/usr/lib"), Path("/usr/local/lib"))
    patterns = ("*/faketime/libfaketimeMT.so.1", "faketime/libfaketimeMT.so.1")
    return next((p for folder in folders for one in patterns for p in folder.glob(one)), None)


class FakeClock:
    """The time of the processes that get its environment."""

    def __init__(self, path):
        """Make a clock that goes right.

        :param Path path: a file that these processes can read
        """
        self.path = Path(path)
        self.set(0)

    @property
    def environment(self):
        library = find_library()
        if not library:
            halt("libfaketime is not installed: run 'make setup'.")
        return {
            "LD_PRELOAD": str(library),
            "FAKETIME_TIMESTAMP_FILE": str(self.path),
            "FAKETIME_NO_CACHE": "1",  # what is written is true at once
            "FAKETIME_DONT_FAKE_MONOTONIC": "1",
            "FAKETIME_DONT_RESET": "1",
        }

    def set(self, seconds):
        """Have it differ from the true time by so many seconds from now on."""
        new = self.path.with_suffix(".new")
        new.write_text(f"{seconds:+d}\n")
        new.chmod(0o644)
        os.replace(new, self.path)
