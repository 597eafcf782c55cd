"""Measure: make bench, make load. The programs are in dev/benchmarks/, here is what they run on."""

import subprocess
import sys

from lib import odoo_server, odoo_source, paths
from lib.say import halt, run_main
from setup import set_up


def main():
    name = sys.argv[1] if len(sys.argv) > 1 else "run"
    program = paths.DEV / "benchmarks" / f"{name}.py"
    if not program.exists():
        halt(f"there is nothing to measure: dev/benchmarks/{name}.py is missing.")
    set_up("load" if name == "load" else "bench")
    env = odoo_server.python_environment(odoo_source.current())
    return subprocess.call([paths.venv_python("odoo"), program], env=env)


if __name__ == "__main__":
    run_main(main)
