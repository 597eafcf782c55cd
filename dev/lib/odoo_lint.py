"""Odoo's own checks (its module test_lint), for what they find in our modules."""

import re

from . import modules, odoo_log
from .odoo_tests import tail

CLASSES = (
    "ManifestLinter",
    "TestDocstring",
    "TestIndex",
    "TestLintOverrideSignatures",
    "TestNaming",
    "TestTestHoles",
)


def run(lab, tally, template):
    """Run them on a copy of a database that has our modules."""
    database = "lint"
    lab.instance.create_database(database, template=template)
    log = lab.folder / f"{database}.lint.log"
    tags = [f"/test_lint:{name}" for name in CLASSES]
    lab.instance.run_tests(database, tags, "-i", "test_lint", log=log)
    lab.instance.drop_database(database)
    report = odoo_log.read(log.read_text(errors="replace"), modules.folders())
    ran = {name.partition(".")[0] for _module, _file, name in report.started}
    found = {key[2].partition(".")[0]: [] for key in report.failed}
    for key, text in report.failed.items():
        found[key[2].partition(".")[0]] += _about_us(text)
    for name in CLASSES:
        if name not in ran:
            tally.fail(f"Odoo's {name} did not run", tail(log))
        else:
            findings = found.get(name, [])
            tally.check(not findings, f"Odoo's {name}", "\n".join(findings))


def _about_us(text):
    """Return the findings that name a module or a folder of ours."""
    names = "|".join(modules.folders())
    pattern = re.compile(rf"\b({names})\b|\b(llm)\.")
    findings = re.split(r"\n(?=(?:FAIL|ERROR): )", text)
    return [finding for finding in findings if pattern.search(finding)]
