"""Check style and conventions: make lint."""

from lib import linters
from lib.say import run_main
from lib.tally import Tally
from setup import set_up


def main():
    set_up("lint")
    tally = Tally()
    linters.run(tally)
    return tally.close()


if __name__ == "__main__":
    run_main(main)
