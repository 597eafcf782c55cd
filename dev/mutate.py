"""Break each guard in a copy of the repository, and require a red test: make mutate."""

import os

from lib import lab, mutants, mutations, seed
from lib.say import halt, run_main, say, stage
from lib.tally import Tally
from setup import set_up


def main():
    names = set(filter(None, os.environ.get("M", "").split(",")))
    chosen = [one for one in mutations.read() if not names or one.name in names]
    if unknown := names - {one.name for one in chosen}:
        halt(f"there is no mutation {', '.join(sorted(unknown))} in {mutations.LIST.name}.")
    if rotten := mutations.faults_of(chosen):
        halt("the list is out of date: " + "; ".join(rotten))
    tally = Tally()
    set_up("test")
    lab.sweep()
    with stage(f"{len(chosen)} mutations"), lab.Lab("mutate", source=seed.folder()) as place:
        say("| mutation | guard that it takes away | killed by | took |")
        mutants.run(place, tally, chosen)
    return tally.close()


if __name__ == "__main__":
    run_main(main)
