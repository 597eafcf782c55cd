"""Bring the translation template and the translations up to the sources: make translate.

What is new has no translation yet and is told; what is gone is dropped. The files are those of the
addon at the root of the repository. Uses the running database of make serve or make demo.
"""

from lib import paths
from lib.say import run_main, say
from lib.stack import Stack
from setup import set_up

#: Runs in Odoo, whose Python has polib.
_UPDATE = """
from pathlib import Path
import polib
from odoo.addons.{module}.tests.translations import export_template

folder = Path({folder!r})
folder.mkdir(exist_ok=True)
template = export_template(env)
template.save(str(folder / "{module}.pot"))
result = {{}}
for path in sorted(folder.glob("*.po")):
    known = {{entry.msgid: entry.msgstr for entry in polib.pofile(str(path))}}
    updated = export_template(env)
    updated.metadata["Language"] = path.stem
    for entry in updated:
        entry.msgstr = known.get(entry.msgid, "")
    updated.save(str(path))
    result[path.stem] = [entry.msgid for entry in updated if not entry.msgstr]
"""


def main():
    set_up("demo")
    stack = Stack().start()
    folder = paths.ROOT / "i18n"
    source = _UPDATE.format(folder=str(folder), module=paths.MODULE)
    for language, missing in stack.instance.code(stack.database, source).items():
        say(f"{language}: {len(missing)} without a translation")
        for text in missing:
            say(f"  {text}")


if __name__ == "__main__":
    run_main(main)
