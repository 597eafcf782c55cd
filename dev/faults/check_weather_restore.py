"""A dump is restored, and a live database duplicated, under load: nothing is paid for twice."""

import subprocess
import time

from evidence import EXPLAINED, check_completed, check_submissions, describe, log_tails
from fault_lab import FaultLab
from lib import postgres
from lib.commands import wait_for
from lib.say import run_main, step
from lib.tally import Tally
from weather_table import report

#: group: (service, jobs, limit, order). The last ones of `waits` are still waiting at the dump.
LOADS = {
    "chats": ("faultchat", 4, 4, {"delay": 6, "pieces": 3}),
    "sync": ("fault", 4, 4, {"delay": 6}),
    "jobs": ("fault", 6, 6, {"job_seconds": 8}),
    "waits": ("fault", 6, 2, {"delay": 5}),
}
MASTER = "admin"  # Odoo's own default


def main():
    tally = Tally()
    with FaultLab("restore") as lab:
        providers = {}
        for group, (service, _count, limit, order) in LOADS.items():
            lab.fake.order(group=group, **order)
            providers[group] = lab.add_provider(group, service, max_concurrent_jobs=limit)
        [server] = lab.start_servers(threaded=1)
        lab.start_runners([server])
        check_restore(lab, tally, providers, server)
        [server] = lab.start_servers(threaded=1)
        lab.start_runners([server])
        check_duplicates(lab, tally, providers, server)
    return tally.close()


def start_jobs(lab, providers, round_name):
    """Have jobs of each kind under way, and others waiting."""
    for group, (_service, count, _limit, _order) in LOADS.items():
        lab.add_jobs(providers[group], (f"{round_name} {group} {one}" for one in range(count)))

    def is_under_way():
        calls = [call["group"] for call in lab.fake.calls() if call["key"].startswith(round_name)]
        accepted = lab.sql(
            "SELECT count(*) FROM llm_generation_job"
            " WHERE state = 'running' AND external_job_id IS NOT NULL"
        )
        wanted = {group: min(count, limit) for group, (_, count, limit, _) in LOADS.items()}
        return accepted == "6" and all(calls.count(group) >= n for group, n in wanted.items())

    return wait_for(is_under_way, 20, 0.1)


def dump_and_restore(lab, target):
    """Do what an administrator does with the tools of PostgreSQL."""
    options = ["-h", lab.cluster.socket, "-p", str(postgres.PORT), "-U", postgres.USER]
    dump = lab.folder / f"{target}.dump"
    programs = postgres.find_binaries()
    subprocess.run([programs / "pg_dump", *options, "-Fc", "-f", dump, lab.database], check=True)
    return lambda: (
        lab.cluster.create_database(target),
        subprocess.run([programs / "pg_restore", *options, "-d", target, dump], check=True),
    )


def check_restore(lab, tally, providers, server):
    """What went on after the dump is not done again when the dump comes back."""
    tally.check(start_jobs(lab, providers, "dumped"), "jobs are under way", log_tails([server]))
    restore = dump_and_restore(lab, "restored")
    ended = lab.wait_ended(60, *providers.values())
    tally.check(ended, "the original goes on", log_tails([server]))
    server.stop()
    restore()
    submitted = count_submissions(lab, "dumped")
    lab.start_servers(threaded=1, database="restored")
    since = time.time()
    lab.pump("restored")  # or the first scheduled action comes within a minute
    check_settled(lab, tally, providers, "restored", "dumped", submitted)
    # A manager decides: the rest runs, each once more and no more than that.
    lab.sql("UPDATE llm_generation_queue SET enabled = TRUE", "restored")
    with_manager = "after a manager enabled the queue, what waited runs"
    ended = lab.wait_ended(60, *providers.values(), database="restored")
    tally.check(ended and lab.states(providers["waits"], database="restored") == {
        "failed": 2, "completed": 4,
    }, with_manager, str(lab.states(providers["waits"], database="restored")))  # fmt: skip
    report(
        lab, tally, "yesterday's dump restored", {"jobs": providers["jobs"]},
        since=since, database="restored",
    )  # fmt: skip
    lab.servers[-1].stop()


def count_submissions(lab, round_name):
    return sum(
        call["key"].startswith(round_name) for call in lab.fake.calls(None, "chat", "create")
    )


def check_settled(lab, tally, providers, database, round_name, submitted):
    """In a database that came from elsewhere, each job is where a human can judge it."""
    [server] = lab.servers[-1:]

    def is_settled():
        return lab.states(*providers.values(), database=database).get("running", 0) == 0

    tally.check(wait_for(is_settled, 80, 0.25), f"{database}: nothing runs", log_tails([server]))
    time.sleep(3)  # for what must not happen
    for group in ("chats", "sync", "waits"):
        jobs = lab.jobs(providers[group], database)
        jobs = [job for job in jobs if job["key"].startswith(round_name)]
        ran = [job for job in jobs if job["attempts"]]
        limit = LOADS[group][2]
        odd = [job for job in ran if job["error_type"] != "unknown_outcome"
               or job["state"] != "failed" or len(job["attempts"]) > 1]  # fmt: skip
        tally.check(
            len(ran) == limit and not odd,
            f"{database}, {group}: the outcome of what ran is unknown",
            describe(jobs),
        )
        mute = [job for job in ran if not job["error_message"]]
        tally.check(not mute, f"{database}, {group}: a sentence tells why", describe(mute))
    waiting = lab.states(providers["waits"], database=database).get("queued")
    tally.check(waiting == 4, f"{database}: what waited still waits", str(waiting))
    enabled = lab.rows("SELECT provider_id FROM llm_generation_queue WHERE enabled", database)
    held = providers["waits"] not in {row["provider_id"] for row in enabled}
    tally.check(held, f"{database}: a queue with waiting jobs is off", str(enabled))
    now = count_submissions(lab, round_name)
    tally.check(now == submitted, f"{database}: nothing is submitted", f"{submitted}, now {now}")


def duplicate(server, source, name, neutralize):
    """Duplicate a live database; return whether it was left alone for the moment that it takes.

    Odoo cuts the sessions of the source first, and PostgreSQL refuses when one is back before it
    has begun to copy: whoever asked tries again.
    """
    try:
        server._rpc("db", "duplicate_database", MASTER, source, name, neutralize)
    except RuntimeError as error:
        if "is being accessed by other users" not in str(error):
            raise
        return False
    return True


def check_duplicates(lab, tally, providers, server):
    """Odoo's own duplicate of a live database leaves the work to the original."""
    lab.fake.forget()
    tally.check(start_jobs(lab, providers, "copied"), "jobs are under way", log_tails([server]))
    since = time.time()
    for name, neutralize in (("copy", False), ("neutral", True)):
        made = wait_for(lambda: duplicate(server, lab.database, name, neutralize), 30, 0.5)  # noqa: B023
        tally.check(made, f"{name} is made", log_tails([server]))
    ended = lab.wait_ended(90, *providers.values())
    tally.check(ended, "the original goes on", log_tails([server]))
    for group, provider in providers.items():
        jobs = [job for job in lab.jobs(provider) if job["key"].startswith("copied")]
        check_completed(lab, tally, jobs, f"{group}: the original completes all")
        repeated = [job for job in jobs if len(job["attempts"]) > 1]
        step(f"{group}: {len(repeated)} were tried again: {describe(repeated)}")
        check_submissions(lab.fake, tally, jobs, group, explained=EXPLAINED)
    report(lab, tally, "database duplicated", providers, since=since)
    submitted = count_submissions(lab, "copied")
    asked = len(lab.fake.calls("jobs", "cancel"))
    lab.start_servers(threaded=1, database="copy")
    lab.pump("copy")
    check_settled(lab, tally, providers, "copy", "copied", submitted)
    cancelled = len(lab.fake.calls("jobs", "cancel")) - asked
    tally.check(not cancelled, "copy: the original's jobs are not cancelled", str(cancelled))
    lab.servers[-1].stop()
    calls = len(lab.fake.calls())
    lab.start_servers(threaded=1, database="neutral")
    check_settled_quietly(lab, tally, providers, calls)


def check_settled_quietly(lab, tally, providers, calls):
    """A neutralized copy asks the provider nothing at all."""
    lab.pump("neutral")
    time.sleep(5)
    states = lab.states(*providers.values(), database="neutral")
    tally.check("running" not in states, "neutral: nothing runs", str(states))
    enabled = lab.sql("SELECT count(*) FROM llm_generation_queue WHERE enabled", "neutral")
    tally.check(enabled == "0", "neutral: all queues are off", enabled)
    new = lab.fake.calls()[calls:]
    tally.check(not new, "neutral: the provider hears nothing", str(new))


if __name__ == "__main__":
    run_main(main)
