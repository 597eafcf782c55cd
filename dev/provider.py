"""Write the addon of a new provider, with its tests: make provider NAME=acme.

INTO names the folder that it is put into, addons/ by default.
"""

import os
from pathlib import Path

from lib import paths, provider_skeleton
from lib.say import run_main, say


def main():
    into = Path(os.environ.get("INTO") or paths.ROOT / "addons")
    folder = provider_skeleton.write(os.environ.get("NAME", ""), into)
    say(f"{folder} is a provider that works with a made-up service. Now, in this order:")
    say("- tests/common.py: let the stand-in answer as the documentation of the service says;")
    say("- models/llm_provider.py: make the tests pass again;")
    if into.resolve() == paths.ROOT / "addons":
        say(f"- make test T=/{folder.name} runs them, in about a minute;")
        say("- make translate makes its folder i18n/: fill in the German and the French.")
    else:
        say("- the tests run with --test-tags in any Odoo that has the folder on its addons path.")


if __name__ == "__main__":
    run_main(main)
