"""Stop everything and remove what was made: make clean."""

import shutil

from lib import paths, postgres, stack
from lib.say import run_main, say
from stop import stop_all


def main():
    stop_all()
    for folder in paths.cache().glob("state/*/demo"):  # of every checkout that uses this cache
        stack.stop(folder)
    shutil.rmtree(paths.cache(), ignore_errors=True)
    postgres.sweep()
    say(f"removed {paths.cache()}")


if __name__ == "__main__":
    run_main(main)
