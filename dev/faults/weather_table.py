"""From what the database and the provider know of jobs to a row of the table of faults."""

import sys
import time
from collections import Counter
from pathlib import Path

from evidence import EXPLAINED, describe
from lib import fault_table

#: States of a job that has not ended.
LIVE = {"draft", "queued", "running"}


def report(
    lab, tally, fault, groups, *, since, expected=None, ends=("completed",), explained=EXPLAINED,
    database=None,
):  # fmt: skip
    """Hand over the row of a fault, and check it.

    :param str fault: what happened, in a few words
    :param dict groups: the provider's id of each group of the fake provider
    :param float since: when the fault was over (time.time())
    :param int expected: how many jobs there have to be, for faults that might remove one
    :param ends: the states in which the jobs may end
    :param explained: error types of attempts that allow a second submission; None is an attempt
        that was given back without an error
    """
    jobs, duplicated, unexplained, why = [], 0, [], Counter()
    for group, provider in groups.items():
        submissions = lab.fake.submissions(group)
        of_group = lab.jobs(provider, database)
        jobs += of_group
        for key in {job["key"] for job in of_group}:
            mine = [job for job in of_group if job["key"] == key]
            # A refusal is no work: nobody pays for it.
            worked = [one for one in submissions.get(key, ()) if not is_refusal(one)]
            again = max(0, len(worked) - len(mine))
            causes = [cause for job in mine for cause in causes_of(job) if cause in explained]
            duplicated += again
            why.update(str(cause or "given back") for cause in causes[:again])
            unexplained += mine[:1] * max(0, again - len(causes))
    stuck = [job for job in jobs if job["state"] in LIVE or job["retry_at"]]
    lost = [job for job in jobs if job not in stuck and not has_ended_well(job, ends)]
    ended = [job["ended"] for job in jobs if job["ended"]]
    recovered = max(ended, default=time.time()) - since
    row = fault_table.Row(
        script=Path(sys.argv[0]).stem,
        fault=fault,
        jobs=len(jobs),
        lost=len(lost) + max(0, (expected or 0) - len(jobs)),
        duplicated=duplicated,
        unexplained=len(unexplained),
        stuck=len(stuck),
        recovered=max(0.0, recovered),
        why=", ".join(f"{count} {cause}" for cause, count in sorted(why.items())),
    )
    fault_table.hand_over(row)
    bad = [*lost, *stuck, *unexplained]
    tally.check(row.is_good, f"{fault}: nothing lost, stuck or unexplained", describe(bad))
    return row


def causes_of(job):
    """Return why attempts of a job ended that did not complete it."""
    return [one["error_type"] for one in job["attempts"] if one["outcome"] != "completed"]


def has_ended_well(job, ends):
    return job["state"] in ends and (job["state"] != "completed" or bool(job["answers"]))


def is_refusal(call):
    """Tell whether the provider only answered with an error status."""
    return call["outcome"].isdigit()
