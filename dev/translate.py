"""Bring the translation templates and the translations up to the sources: make translate.

The files are those of each addon of the repository that has a folder i18n/. What is new has no
translation yet and is told; a text that moved from one addon to another keeps its translation, and
what is gone is dropped. Uses the running database of make serve or make demo.
"""

from lib import modules, paths
from lib.say import run_main, say
from lib.stack import Stack
from setup import set_up

#: Runs in Odoo, whose Python has polib.
_UPDATE = """
from pathlib import Path
import polib
from odoo.addons.{module}.tests.translations import LANGUAGES, export_template

folders = {{addon: Path(folder) for addon, folder in {folders!r}.items()}}

def translations(language, folder):
    path = folder / f"{{language}}.po"
    entries = polib.pofile(str(path)) if path.exists() else ()
    return {{entry.msgid: entry.msgstr for entry in entries if entry.translated()}}

# All are read before any is written: a text may have moved from one to the other.
known = {{}}
for language in LANGUAGES:
    shared = {{}}
    for folder in folders.values():
        shared = translations(language, folder) | shared
    for addon, folder in folders.items():
        known[addon, language] = shared | translations(language, folder)

result = []
for addon, folder in folders.items():
    export_template(env, addon).save(str(folder / f"{{addon}}.pot"))
    for language in LANGUAGES:
        updated = export_template(env, addon)
        updated.metadata["Language"] = language
        for entry in updated:
            entry.msgstr = known[addon, language].get(entry.msgid, "")
        updated.save(str(folder / f"{{language}}.po"))
        missing = [entry.msgid for entry in updated if not entry.msgstr]
        result.append([addon, language, missing])
"""


def main():
    set_up("demo")
    stack = Stack().start()
    folders = {
        addon: str(folder / "i18n")
        for addon, folder in modules.folders().items()
        if (folder / "i18n").is_dir()
    }
    source = _UPDATE.format(folders=folders, module=paths.MODULE)
    for addon, language, missing in stack.instance.code(stack.database, source):
        say(f"{addon}, {language}: {len(missing)} without a translation")
        for text in missing:
            say(f"  {text}")


if __name__ == "__main__":
    run_main(main)
