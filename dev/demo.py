"""Show queued generation with a real model: make demo (DEMO_EXIT=1 stops everything at the end)."""

import os
import sys

from demo_play import Administrator, Play
from demo_view import title
from lib.say import halt, run_main, say, step
from lib.stack import LOGIN, PASSWORD, Stack
from setup import set_up


def play(stack):
    """Do the main job of the addon over HTTP, and tell whether all of it came out as it should."""
    admin = Administrator(stack)
    with admin.failing_address() as address:
        admin.set_up(address)
        user = Play(stack, admin)
        user.ask()
    user.watch()
    return user.report()


def farewell(stack):
    title("Odoo is running")
    say(f"Open    {stack.url}/odoo   the database is {stack.database}, for who calls it by RPC")
    say(f"Log in  {LOGIN} / {PASSWORD}   the administrator: queues, limits, all jobs")
    say("        demo / demo     the user who asked: threads, own jobs")
    say("Stop    make stop")
    say(f"Log     {stack.server.log}")


def main():
    sys.stdout.reconfigure(errors="replace")  # whatever a model says, and whatever the terminal
    say("LLM Generate Job: every answer of a language model goes through a queue\n")
    leave = os.environ.get("DEMO_EXIT") not in {None, "", "0"}
    set_up("demo")
    stack = Stack()
    try:
        stack.start()
        step("ready")
        passed = play(stack)
        if not leave:
            farewell(stack)
    finally:
        if leave:
            stack.stop()
            say("\nEverything is stopped (DEMO_EXIT).")
    if not passed:
        halt(f"the demo did not come out as it should; Odoo's log is {stack.server.log}.")


if __name__ == "__main__":
    run_main(main)
