"""Where the keys and the prompts of the tests end up.

Those that the tests use bear a mark: `canary-key-…`, `canary-prompt-…`. No log may have one, nor
any table but where it belongs.
"""

import json
import re

from . import fault_scripts

MARK = re.compile(r"canary-(key|prompt)-\w+")
#: Where a mark belongs. A thread's first question becomes its name, and a part of its jobs'.
INTENDED = {
    "key": {"llm_provider.api_key"},
    "prompt": {
        "llm_generation_job.generation_inputs",
        "mail_message.body",
        "mail_message.body_json",
        "mail_message.llm_source",
    },
}
#: What the marked data has to have reached, or the search proves nothing.
REACHED = {
    ("key", "llm_provider.api_key"),
    ("prompt", "llm_generation_job.generation_inputs"),
    ("prompt", "mail_message.body"),
    ("prompt", "mail_message.llm_source"),
}
#: PostgreSQL logs the row that breaks a constraint, and tests of constraints break them. No
#: constraint is broken where servers run.
BROKEN_ROW = "DETAIL:  Failing row contains"
#: Templates, and what PostgreSQL has of its own.
_NOT_OURS = {"postgres", "stack", "tpl", fault_scripts.DATABASE}
_TABLES = """
    SELECT relname FROM pg_class
    WHERE relkind IN ('r', 'p') AND relnamespace = 'public'::regnamespace
"""
_COLUMNS = """
    SELECT mark[1], '{table}.' || value.key, count(*)
    FROM "{table}" AS record, jsonb_each_text(to_jsonb(record)) AS value,
        regexp_matches(value.value, '{mark}', 'g') AS mark
    WHERE record::text LIKE '%canary-%'
    GROUP BY 1, 2
"""


def in_database(cluster, database):
    """Return `[(kind, table.column, how many)]` of the marks in a database."""
    tables = cluster.sql(_TABLES, database).split()
    parts = (_COLUMNS.format(table=table, mark=MARK.pattern) for table in tables)
    rows = cluster.sql(" UNION ALL ".join(parts), database).splitlines()
    return [(kind, place, int(count)) for kind, place, count in (row.split("|") for row in rows)]


def note(lab, *databases):
    """Write what marks these databases of a lab have, or all, into a log that is kept."""
    with (lab.folder / "marks.log").open("a") as file:
        for database in databases or sorted(set(lab.cluster.databases()) - _NOT_OURS):
            file.write(json.dumps([database, in_database(lab.cluster, database)]) + "\n")


def in_log(path):
    """Return the lines of a log that have a mark."""
    lines = path.read_text(errors="replace").splitlines()
    if path.match("test/postgresql.log"):
        lines = [line for line in lines if BROKEN_ROW not in line]
    return [line for line in lines if MARK.search(line)]


def check(tally, folders, *, since=0.0):
    """Check the logs and the noted databases of labs.

    :param folders: where their logs are
    :param float since: older folders are of an earlier run
    """
    found, notes = set(), 0
    for folder in sorted(folders):
        if folder.stat().st_mtime < since:
            continue
        for path in sorted(folder.glob("*.log")):
            if path.name != "marks.log":
                lines = in_log(path)
                title = f"{folder.name}/{path.name}: no key and no prompt"
                tally.check(not lines, title, "\n".join(line[:300] for line in lines[:9]))
                continue
            for line in path.read_text().splitlines():
                database, rows = json.loads(line)
                notes += 1
                found.update((kind, place) for kind, place, _count in rows)
                odd = [row for row in rows if row[1] not in INTENDED[row[0]]]
                title = f"{folder.name}/{database}: keys and prompts are where they belong"
                tally.check(not odd, title, "\n".join(map(str, odd)))
    tally.check(
        notes >= len(fault_scripts.scripts()), "the databases were searched", f"{notes} were"
    )
    missing = REACHED - found
    tally.check(not missing, "the marks are where they should be", str(sorted(missing)))
