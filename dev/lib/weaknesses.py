"""Look for weaknesses: in our code with bandit, in what is pinned with pip-audit."""

import fnmatch
import json
import os
import subprocess
import tempfile
from pathlib import Path

from . import paths
from .say import say

_TESTS = "tests/*", "dev/benchmarks/*", "dev/faults/*", "addons/*/tests/*"
CONSTANTS = "made of constants, see test_weaknesses.py"
#: What bandit finds and what there is to say to it: (test of bandit, where, answer). A finding
#: without an answer fails, and so does an answer without a finding.
ANSWERS = (
    ("B101", ("tests/test_fuzz_jobs.py",), "hypothesis wants plain assertions of a state machine"),
    ("B404", ("dev/*",), "each start is judged by itself"),
    ("B603", ("dev/*",), "lists without a shell"),
    ("B607", ("dev/*",), "the developer's own tools, from the developer's own PATH"),
    ("B310", ("dev/*", *_TESTS), "http to servers on this machine that were started there"),
    ("B608", ("engine/sql.py", "addons/*/statements.py"), CONSTANTS),
    ("B608", _TESTS, "constants of the test and ids that the database itself made"),
    ("B311", _TESTS, "load and faults by chance, no secret"),
    ("B105", ("tests/*", "addons/*/tests/*", "dev/faults/*"), "secrets made up for the test"),
    ("B105", ("addons/*/res_config_settings.py",), "the name of a parameter"),
    ("B105", ("protocol/signatures.py",), "sentences about secrets"),
    ("B105", ("addons/llm_openai_job/batches.py",), "the code of an error about tokens"),
    ("B105", ("dev/lib/stack.py",), "the password of the demo, which it tells"),
    ("B108", ("dev/lib/postgres.py",), "made with mode 0700, refused if another user has it"),
    ("B102", ("tests/readme.py",), "executes the examples of the README, which is ours"),
    ("B704", ("addons/llm_thread/markup.py",), "was escaped before, see its test_markup.py"),
    ("B704", ("addons/llm/tests/*", "tests/test_source.py"), "reads a constant of the test"),
)
#: Vulnerabilities of pinned packages that do not concern us: {id or alias: why}.
ACCEPTED = {
    "CVE-2024-12797": "TLS with raw public keys, which nothing here uses; Odoo wants this series",
}
#: Known to be vulnerable for ever: who does not know it has no data about vulnerabilities.
CANARY = ("jinja2", "2.4.1")
#: Signs in what pip-audit says that it got no answer, and that nothing is wrong with the pins.
_NOBODY_ANSWERED = ("requests.exceptions.", "ServiceError", "ould not connect", "redirecting")


def checks(sources):
    """Yield (title, function that returns its complaints)."""
    yield "bandit", lambda: _bandit(sources)
    yield "known vulnerabilities of what is pinned", _pip_audit


def _call(*command):
    return subprocess.run(
        [paths.venv_python("audit"), "-m", *map(str, command)],
        cwd=paths.ROOT,
        env={**os.environ, "PYTHONDONTWRITEBYTECODE": "1", "PYTHONPATH": ""},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )


def _bandit(sources):
    answer = _call("bandit", "--quiet", "--format", "json", *sources)
    try:
        report = json.loads(answer.stdout)
    except ValueError:
        return answer.stderr or f"bandit ended with status {answer.returncode}"
    skipped = [f"{error['filename']}: {error['reason']}" for error in report["errors"]]
    return "\n".join([*skipped, *unanswered(report["results"])])


def unanswered(findings, answers=ANSWERS):
    """Return what bandit found and nobody answered, and the answers that nothing asks for."""
    complaints, used = [], set()
    for finding in findings:
        file, test = finding["filename"].removeprefix("./"), finding["test_id"]
        fitting = [
            row for row in answers
            if row[0] == test and any(fnmatch.fnmatchcase(file, place) for place in row[1])
        ]  # fmt: skip
        used.update(fitting)
        if not fitting:
            complaints.append(f"{file}:{finding['line_number']}: {test} {finding['issue_text']}")
    return complaints + [
        f"the answer to {test} in {', '.join(places)} answers nothing: drop it"
        for test, places, answer in answers
        if (test, places, answer) not in used
    ]


def _pip_audit():
    pins = {"==".join(CANARY)}
    for file in paths.DEV.glob("requirements-*.txt"):
        lines = map(str.strip, file.read_text(encoding="utf-8").splitlines())
        pins |= {line for line in lines if line and not line.startswith("#")}
    dependencies = []
    for group in without_twins(pins):
        with tempfile.TemporaryDirectory() as folder:
            file = Path(folder) / "pins.txt"
            file.write_text("\n".join(group), encoding="utf-8")
            answer = _call(
                *("pip_audit", "--vulnerability-service", "pypi", "--format", "json"),
                *("--no-deps", "--disable-pip", "--progress-spinner", "off"),
                *("--cache-dir", paths.cache() / "pip-audit", "--requirement", file),
            )
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
