"""Talk to the person who started the script."""

import signal
import sys
import time
from contextlib import contextmanager
from typing import NoReturn

STARTED = time.monotonic()


class HaltError(Exception):
    """Something that the person can mend; its text is a sentence that says how."""


def halt(sentence) -> NoReturn:
    raise HaltError(sentence)


def say(text=""):
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


def step(text):
    """Say what happens now, with the time since the start."""
    say(f"[{time.monotonic() - STARTED:5.0f} s] {text}")


@contextmanager
def stage(title):
    begin = time.monotonic()
    say(f"\n=== {title}")
    try:
        yield
    finally:
        say(f"=== {title}: {time.monotonic() - begin:.0f} s")


def run_main(main):
    """Call main(), turn its errors into one sentence, and exit with its status."""

    signals = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)

    def stop(signum, _frame):
        for other in signals:  # what was started is being stopped: a second Ctrl-C must not cut in
            signal.signal(other, signal.SIG_IGN)
        raise SystemExit(128 + signum)

    for signum in signals:
        signal.signal(signum, stop)
    try:
        status = main() or 0
    except HaltError as error:
        sys.stdout.flush()
        sys.stderr.write(f"error: {error}\n")
        status = 1
    except OSError as error:
        if error.errno != 28:  # ENOSPC
            raise
        sys.stderr.write(
            "error: the disk is full: free some space, or set XDG_CACHE_HOME to a folder "
            "on a larger one, and run the command again.\n"
        )
        status = 1
    sys.stdout.flush()
    raise SystemExit(status)
