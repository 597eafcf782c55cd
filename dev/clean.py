"""Stop everything and remove what was made: make clean."""

import shutil

from lib import lab, paths, postgres, processes
from lib.say import run_main, say


def main():
    lab.sweep()
    # Of every checkout that uses this cache.
    for folder in {paths.state() / "demo", *paths.cache().glob("state/*/demo")}:
        processes.stop_marked(folder)
    shutil.rmtree(paths.cache(), ignore_errors=True)
    postgres.sweep()
    say(f"removed {paths.cache()}")


if __name__ == "__main__":
    run_main(main)
