"""Bring the translation templates and the translations up to the sources: make translate.

The files are those of each addon of the repository, in its folder i18n/. What is new has no
translation yet and is told; a text that moved from one addon to another keeps its translation, and
what is gone is dropped. It has an Odoo with all of them, which is gone at the end.
"""

from lib import modules, paths, peer
from lib.lab import Lab
from lib.say import run_main, say
from setup import set_up

#: Runs in Odoo, whose Python has polib.
_UPDATE = """
from pathlib import Path
import polib
from odoo.addons.{module}.tests.po_files import LANGUAGES
from odoo.addons.{module}.tests.translations import export_template

folders = {{addon: Path(folder) for addon, folder in {folders!r}.items()}}

def read(folder, name):
    path = folder / name
    return polib.pofile(str(path)) if path.exists() else polib.POFile()

def translations(language, folder):
    entries = read(folder, f"{{language}}.po")
    return {{entry.msgid: entry.msgstr for entry in entries if entry.translated()}}

def save(file, folder, name):
    # The date of an export says nothing, and every one of them is a change.
    file.metadata.update(read(folder, name).metadata)
    file.save(str(folder / name))

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
    folder.mkdir(exist_ok=True)
    save(export_template(env, addon), folder, f"{{addon}}.pot")
    for language in LANGUAGES:
        updated = export_template(env, addon)
        updated.metadata["Language"] = language
        for entry in updated:
            entry.msgstr = known[addon, language].get(entry.msgid, "")
        save(updated, folder, f"{{language}}.po")
        missing = [entry.msgid for entry in updated if not entry.msgstr]
        result.append([addon, language, missing])
"""


class _Lab(Lab):
    """An Odoo with all our modules, the bridge to queue_job too."""

    instance_class = peer.Instance


def main():
    set_up("translate")
    with _Lab("translate") as lab:
        names = modules.installable(lab.instance)
        lab.instance.create_database("texts", names)
        folders = {name: str(modules.folders()[name] / "i18n") for name in names}
        source = _UPDATE.format(folders=folders, module=paths.MODULE)
        for addon, language, missing in lab.instance.code("texts", source):
            say(f"{addon}, {language}: {len(missing)} without a translation")
            for text in missing:
                say(f"  {text}")


if __name__ == "__main__":
    run_main(main)
