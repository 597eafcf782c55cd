"""Stop everything and remove what was made: make clean."""

import shutil

from lib import paths, postgres, processes
from lib.say import run_main, say
from stop import stop_all


def main():
    stop_all()
    for folder in paths.cache().glob("state/*/demo"):  # of every checkout that uses this cache
        processes.Ledger(folder / "pids.json").stop_all()
        postgres.Cluster(folder / "cluster").remove()
    shutil.rmtree(paths.cache(), ignore_errors=True)
    say(f"removed {paths.cache()}")


if __name__ == "__main__":
    run_main(main)
