"""Build the wheels of our modules: make wheel. With TEST, run all their tests from there."""

import os

from lib import lab, model_server, paths, seed, wheel_check, wheels
from lib.say import run_main, say
from lib.tally import Tally
from setup import set_up


def main():
    if os.environ.get("TEST"):
        return test()
    set_up("wheel")
    for wheel in wheels.build(paths.cache() / "wheels").values():
        say(wheel)
    return 0


def test():
    set_up("test")
    tally = Tally()
    with lab.Lab("wheel", source=seed.folder()) as place:
        model_server.serve_tests(place.folder)
        wheel_check.run(place, tally, everything=True)
    if tally.failures:
        say(f"The logs are in {place.kept_logs}")
    return tally.close()


if __name__ == "__main__":
    run_main(main)
