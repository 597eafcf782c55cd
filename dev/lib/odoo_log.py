"""Read the log of a test run: what ran, what failed, and what should not be there."""

import re
from dataclasses import dataclass, field

from . import paths

_HEAD = re.compile(
    r"^\d{4}-\d\d-\d\d \d\d:\d\d:\d\d,\d{3} \d+ (?P<level>[A-Z]+) (?P<db>\S+) (?P<logger>\S+): "
    r"(?P<text>.*)$"
)
_FAILED = re.compile(r"^(?:FAIL|ERROR): (?:Subtest )?(?P<test>\S+)")
_SUMMARY = re.compile(r"\d+ (?:failed|failures), \d+ error|test.* failed", re.IGNORECASE)
_MODULE = re.compile(r"^odoo\.addons\.(\w+)\.tests\.([\w.]+)$")


@dataclass
class Record:
    level: str
    logger: str
    text: str

    def __str__(self):
        return f"{self.level} {self.logger}: {self.text}"


@dataclass
class Report:
    started: set = field(default_factory=set)  # (module, file, "Class.method")
    skipped: dict = field(default_factory=dict)  # the same: reason
    failed: dict = field(default_factory=dict)  # the same: text
    problems: list = field(default_factory=list)

    @property
    def passed(self):
        return self.started - set(self.failed) - set(self.skipped)


def records(text):
    """Split a log into records; a traceback belongs to the record above it."""
    current = None
    for line in text.splitlines():
        match = _HEAD.match(line)
        if match:
            if current:
                yield current
            current = Record(match["level"], match["logger"], match["text"])
        elif current:
            current.text += f"\n{line}"
    if current:
        yield current


def read(text, ours=()):
    """Report on a log; `ours` are the modules whose warnings count."""
    report = Report()
    # The cache is called like the addon: its path in a message is not about us.
    for record in records(text.replace(str(paths.cache()), "CACHE")):
        _read_record(report, record, ours)
    if report.failed:
        report.problems = [one for one in report.problems if not _is_echo(one, report.failed)]
    return report


def _is_echo(record, failed):
    """Tell a record that only says again that a test failed: a summary, or the test's browser."""
    loggers = (f"odoo.addons.{module}.tests.{file}.{name}." for module, file, name in failed)
    return _SUMMARY.search(record.text) or record.logger.startswith(tuple(loggers))


def _read_record(report, record, ours):
    place = _MODULE.match(record.logger)
    where = place.groups() if place else ("", record.logger)
    if place and record.level == "INFO":
        first, _space, rest = record.text.partition(" ")
        name = rest.split(" ", 1)[0]
        if first == "Starting":
            report.started.add((*where, name))
        elif first == "skipped":
            report.skipped[*where, name] = record.text
    elif record.level in {"ERROR", "CRITICAL"}:
        failed = _FAILED.match(record.text)
        if failed:
            key = (*where, failed["test"])
            report.failed[key] = "\n".join(filter(None, [report.failed.get(key), record.text]))
        else:
            report.problems.append(record)
    elif record.level == "WARNING" and _is_ours(record, ours):
        report.problems.append(record)


def _is_ours(record, ours):
    """Tell a warning that our code logs, or that is about our code."""
    parts = record.logger.split(".")
    if parts[:2] == ["odoo", "addons"] and len(parts) > 2:
        return parts[2] in ours
    return any(re.search(rf"[/.\s'\"(]{name}[/.\s'\"):,]", record.text) for name in ours)
