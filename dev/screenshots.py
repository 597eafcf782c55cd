"""Take a picture of each view, as administrator and as user: make screenshots, after make demo."""

import shutil

from lib import odoo_server, paths
from lib.say import run_main
from lib.stack import Stack
from setup import set_up


def main():
    set_up("screenshots")
    stack = Stack().start()
    stack.ensure_provider()
    folder = paths.state() / "screenshots"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    program = paths.DEV / "take_pictures.py"
    return odoo_server.run_program(program, folder, stack.url, stack.database)


if __name__ == "__main__":
    run_main(main)
