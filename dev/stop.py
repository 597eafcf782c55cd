"""Stop what make demo and make serve started: make stop."""

from lib import lab, paths, processes
from lib.say import run_main, say


def main():
    stopped = processes.stop_marked(paths.state() / "demo")
    lab.sweep()
    say(f"{stopped} processes were stopped" if stopped else "nothing was running")


if __name__ == "__main__":
    run_main(main)
