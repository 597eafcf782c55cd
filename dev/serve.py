"""Start Odoo with our modules and a local model, in the background: make serve."""

from lib.say import run_main, say
from lib.stack import LOGIN, PASSWORD, Stack
from setup import set_up


def main():
    set_up("demo")
    stack = Stack().start()
    stack.ensure_provider()
    say(f"\nOdoo is at {stack.url} (login {LOGIN}, password {PASSWORD}),")
    say(f"with the database {stack.database}, for who calls it by RPC.")
    say(f"The model is {stack.endpoint['model']} at {stack.endpoint['api_base']}.")
    say(f"The log is {stack.server.log}. 'make stop' stops it all.")


if __name__ == "__main__":
    run_main(main)
