"""Stop what make demo and make serve started: make stop."""

from lib import lab, paths, stack
from lib.say import run_main, say


def stop_all():
    stopped = stack.stop(paths.state() / "demo")
    lab.sweep()
    return stopped


def main():
    stopped = stop_all()
    say(f"stopped: {', '.join(stopped)}" if stopped else "nothing was running")


if __name__ == "__main__":
    run_main(main)
