"""Stop what make demo and make serve started: make stop."""

from lib import lab, paths, processes
from lib.say import run_main, say


def stop_all():
    stopped = processes.Ledger(paths.state() / "demo" / "pids.json").stop_all()
    lab.sweep()
    return stopped


def main():
    stopped = stop_all()
    say(f"stopped: {', '.join(stopped)}" if stopped else "nothing was running")


if __name__ == "__main__":
    run_main(main)
