"""Look with pip-audit for known vulnerabilities of what is pinned."""

import json
import subprocess
import tempfile
from pathlib import Path

from . import paths
from .say import say

#: Vulnerabilities of pinned packages that do not concern us: {id or alias: why}.
ACCEPTED = {
    "CVE-2024-12797": "TLS with raw public keys, which nothing here uses; Odoo wants this series",
}
#: Known to be vulnerable for ever: who does not know it has no data about vulnerabilities.
CANARY = ("jinja2", "2.4.1")
#: Signs in what pip-audit says that it got no answer, and that nothing is wrong with the pins.
_NOBODY_ANSWERED = ("requests.exceptions.", "ServiceError", "ould not connect", "redirecting")


def complaints():
    pins = {"==".join(CANARY)}
    for file in paths.DEV.glob("requirements-*.txt"):
        lines = map(str.strip, file.read_text(encoding="utf-8").splitlines())
        pins |= {line for line in lines if line and not line.startswith("#")}
    dependencies = []
    for group in without_twins(pins):
        with tempfile.TemporaryDirectory() as folder:
            file = Path(folder) / "pins.txt"
            file.write_text("\n".join(group), encoding="utf-8")
            command = [
                *(paths.venv_python("audit"), "-Im", "pip_audit", "--format", "json"),
                *("--vulnerability-service", "pypi", "--no-deps", "--disable-pip"),
                *("--progress-spinner", "off", "--cache-dir", paths.cache() / "pip-audit"),
                *("--requirement", file),
            ]
            answer = subprocess.run(command, capture_output=True, text=True, check=False)
        try:
            dependencies += json.loads(answer.stdout)["dependencies"]
        except (KeyError, ValueError):
            if any(sign in answer.stderr for sign in _NOBODY_ANSWERED):
                say("pip-audit: the package index did not answer, so NOTHING WAS AUDITED")
                return ""
            return answer.stderr or f"pip-audit ended with status {answer.returncode}"
    return judge(dependencies)


def without_twins(pins):
    """Return the pins in groups, none of which has two versions of one package.

    >>> without_twins({"a==1", "A==2", "b==1"})
    [['A==2', 'b==1'], ['a==1']]
    """
    groups = []
    for pin in sorted(pins):
        name = pin.partition("==")[0].lower()
        group = next((one for one in groups if name not in one), None)
        if group is None:
            groups.append(group := {})
        group[name] = pin
    return [[*group.values()] for group in groups]


def judge(dependencies):
    """Return what is known of vulnerabilities, as one text, '' for nothing.

    Without data about vulnerabilities it says so, and has no complaint.

    :param list dependencies: as pip-audit tells them in its JSON
    """
    canary = [one for one in dependencies if (one["name"].lower(), one.get("version")) == CANARY]
    if not any(one.get("vulns") for one in canary):
        say("pip-audit: the package index serves no vulnerabilities, so NOTHING WAS AUDITED")
        return ""
    complaints = set()
    for one in dependencies:
        if "skip_reason" in one:
            say(f"pip-audit: {one['name']} was not audited: {one['skip_reason']}")
        for known in () if one in canary else one.get("vulns", ()):
            names = {known["id"], *known.get("aliases", ())}
            if not names & ACCEPTED.keys():
                fixed = ", ".join(known.get("fix_versions", ())) or "no version"
                told = f"{one['name']} {one['version']}: {', '.join(sorted(names))}"
                complaints.add(f"{told}; fixed in {fixed}")
    return "\n".join(sorted(complaints))
