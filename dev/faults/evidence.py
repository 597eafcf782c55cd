"""What the database, the provider and the logs say about the same jobs, held together."""

import re
from collections import Counter

#: Ends of an attempt after which the job may rightly be submitted again.
EXPLAINED = {
    "worker_died",
    "unknown_outcome",
    "transient",
    "overloaded",
    "rate_limited",
    "timeout",
}

#: Where a record of a log begins.
RECORD = re.compile(r"^(?=\d{4}-\d\d-\d\d \d\d:\d\d:\d\d,\d{3} )", re.MULTILINE)
#: Of the family, which logs each error of a provider with its traceback, and posts it.
FAMILY_LOGGER = " odoo.addons.llm_assistant."


def describe(jobs, limit=8):
    """Tell about some jobs, for whoever has to find out what went wrong with them."""
    lines = [str(dict(Counter(job["state"] for job in jobs)))]
    for job in jobs[:limit]:
        attempts = [
            f"{one['outcome']}/{one['error_type']} {one['seconds']:.1f} s in {one['runner']}"
            for one in job["attempts"]
        ]
        lines.append(
            f"job {job['id']} ({job['key']}) is {job['state']}, {job['error_type']}:"
            f" {(job['error_message'] or '')[:150]!r}, {job['retry_count']} retries,"
            f" answers {job['answers']}, attempts {attempts}"
        )
    return "\n".join(lines)


def log_tails(servers, lines=12):
    """Return the ends of the servers' logs, warnings and worse."""
    parts = []
    for server in servers:
        bad = [line for line in server.log_text().splitlines() if " INFO " not in line]
        parts += [f"--- {server.name}:", *(line[:240] for line in bad[-lines:])]
    return "\n".join(parts)


def check_completed(lab, tally, jobs, title="all jobs are completed"):
    """Every job is completed, with one answer in its thread, the one it names."""
    open_jobs = [job for job in jobs if job["state"] != "completed"]
    tally.check(
        not open_jobs, title, f"{describe(open_jobs)}\n{log_tails(lab.servers)}" * bool(open_jobs)
    )
    odd = [
        job
        for job in jobs
        if job["state"] == "completed" and job["answers"] != [job["output_message_id"]]
    ]
    tally.check(not odd, f"{title}: one answer a job", describe(odd))


def check_submissions(fake, tally, jobs, group, *, explained=()):
    """Nothing was submitted more often than the attempts explain; return the repeated keys."""
    submissions = fake.submissions(group)
    unknown = set(submissions) - {job["key"] for job in jobs}
    tally.check(not unknown, f"{group}: only jobs were submitted", str(sorted(unknown)[:9]))
    never = [job for job in jobs if job["state"] == "completed" and job["key"] not in submissions]
    tally.check(not never, f"{group}: what is completed was submitted", describe(never))
    repeated, bad = {}, []
    for job in jobs:
        times = len(submissions.get(job["key"], ()))
        causes = [one["error_type"] for one in job["attempts"] if one["outcome"] != "completed"]
        if times > 1:
            repeated[job["key"]] = causes
        allowed = sum(cause in explained for cause in causes)
        if times > 1 + allowed or times > len(job["attempts"]):
            bad.append(job)
    tally.check(
        not bad,
        f"{group}: a second submission only where the attempts explain it",
        "\n".join([describe(bad), *(str(submissions[job["key"]]) for job in bad[:5])]),
    )
    return repeated


def check_logs(tally, servers, *, words=("could not serialize", "SerializationFailure")):
    """None of these words is in a log, but in what the family logs besides telling it."""
    for word in words:
        found = [
            f"{server.name}: {line[:240]}"
            for server in servers
            for record in RECORD.split(server.log_text())
            if FAMILY_LOGGER not in record.partition(": ")[0]
            for line in record.splitlines()
            if word in line
        ]
        tally.check(not found, f"no “{word}” in the logs", "\n".join(found[:12]))
