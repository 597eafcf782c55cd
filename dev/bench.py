"""Measure: make bench, make load. The programs are in dev/benchmarks/, here is what they run on."""

import sys

from lib import odoo_server, paths
from lib.say import run_main
from setup import set_up


def main():
    is_load = sys.argv[1:] == ["load"]
    set_up("load" if is_load else "bench")
    program = "load.py" if is_load else "run.py"
    return odoo_server.run_program(paths.DEV / "benchmarks" / program)


if __name__ == "__main__":
    run_main(main)
