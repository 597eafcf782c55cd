"""Take a picture of each view, as administrator and as user: make screenshots, after make demo."""

import shutil
import subprocess

from lib import odoo_server, odoo_source, paths
from lib.say import run_main
from lib.stack import Stack
from setup import set_up


def main():
    set_up("screenshots")
    stack = Stack().start()
    folder = paths.state() / "screenshots"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    return subprocess.call(
        [
            paths.venv_python("odoo"),
            paths.DEV / "take_pictures.py",
            *(folder, stack.url, stack.database),
        ],
        env=odoo_server.python_environment(odoo_source.current()),
    )


if __name__ == "__main__":
    run_main(main)
