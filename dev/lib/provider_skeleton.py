"""The addon of a new provider, made from the one in dev/provider/, whose service is Acme."""

import re
import shutil

from . import modules, odoo_tests, paths
from .say import halt

TEMPLATE = paths.DEV / "provider"
ICON = "static/description/icon.png"
#: Longer names would make lines of the template longer than the house wants.
LONGEST = 16
_NAME = re.compile(r"[a-z][a-z0-9]*(_[a-z0-9]+)*")


def write(name, into):
    """Write the addon llm_<name> into a folder and return where it is.

    :raise HaltError: if no addon can have the name, or one has it already
    """
    if not _NAME.fullmatch(name) or len(name) > LONGEST:
        halt(
            "the name of a service has small letters, digits and single underscores, "
            f"{LONGEST} at most, and begins with a letter: make provider NAME=acme"
        )
    module = f"llm_{name}"
    folder = into / module
    taken = modules.folders().get(module) or (folder if folder.exists() else None)
    if taken:
        halt(f"{module} is there already: see {taken}, or take another name.")
    for source in sorted(TEMPLATE.rglob("*")):
        if source.is_file() and "__pycache__" not in source.parts:
            target = folder / source.relative_to(TEMPLATE)
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_text(_renamed(source.read_text(encoding="utf-8"), name), encoding="utf-8")
    shutil.copyfile(paths.ROOT / "addons" / "llm" / ICON, folder / ICON)
    return folder


def _renamed(text, name):
    """Return a text of the template about another service: in names, sentences and classes."""
    words = [word.capitalize() for word in name.split("_")]
    text = re.sub(r"\bAcme\b", " ".join(words), text)
    return text.replace("Acme", "".join(words)).replace("acme", name)


def check(lab, tally, template):
    """Write such an addon, install it on a copy of a database with ours, and run its tests."""
    into = lab.folder / "skeleton"
    into.mkdir()
    folder = write("zenith_sky", into)
    name, database = folder.name, "provider"
    lab.instance.create_database(database, template=template)
    try:
        report = odoo_tests.run(lab, tally, database, [name], install=[name], addons=into)
        odoo_tests.check_all_ran(tally, report, {name: folder})
        inherited = [test for _module, file, test in report.passed if file == "test_contract"]
        tally.check(inherited, f"{name} is held to the contract")
    finally:
        lab.instance.drop_database(database)
