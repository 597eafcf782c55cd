"""A live database is duplicated under load: the copy calls nobody before a manager says so."""

import time

from evidence import EXPLAINED, check_completed, check_submissions, describe, log_tails
from fault_lab import FaultLab
from lib.processes import wait_for
from lib.say import run_main, step
from lib.tally import Tally
from weather_table import report

#: group: (service, jobs, limit, order). The last ones of `waits` are still waiting when it is made.
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


def count_submissions(lab, round_name):
    return sum(
        call["key"].startswith(round_name) for call in lab.fake.calls(None, "chat", "create")
    )


def check_held(lab, tally, providers, database, submitted, ended):
    """In a copy nothing starts; what ran in the original waits, what a provider has is answered."""
    [server] = lab.servers[-1:]

    def is_calm():
        return lab.states(*providers.values(), database=database).get("running", 0) == 0

    # A process that is not here is missed after 45 s.
    tally.check(wait_for(is_calm, 100, 0.25), f"{database}: nothing runs", log_tails([server]))
    time.sleep(3)  # for what must not happen
    enabled = lab.sql(
        "SELECT count(*) FROM llm_generation_queue q WHERE enabled AND EXISTS ("
        " SELECT FROM llm_generation_job j WHERE j.provider_id = q.provider_id"
        " AND j.state IN ('queued', 'running'))",
        database,
    )
    tally.check(enabled == "0", f"{database}: all queues with work are off", enabled)
    held = lab.sql("SELECT count(*) FROM llm_generation_queue WHERE NOT enabled", database)
    tally.check(int(held) > 0, f"{database}: some queue had work", held)
    for group, provider in providers.items():
        states = lab.states(provider, database=database)
        done = LOADS[group][1] if group == "jobs" else ended[group]
        wanted = {"completed": done, "queued": LOADS[group][1] - done}
        wanted = {state: count for state, count in wanted.items() if count}
        title = f"{database}, {group}: each is where it has to be"
        tally.check(states == wanted, title, f"{states}, not {wanted}")
    tally.check("queued" in lab.states(providers["waits"], database=database), "some wait")
    now = count_submissions(lab, "copied")
    tally.check(now == submitted, f"{database}: nothing is submitted", f"{submitted}, now {now}")


def check_enabled(lab, tally, provider, database, submitted):
    """A manager decides: what waits there runs, each once."""
    count = lab.states(provider, database=database)["queued"]
    lab.sql(f"UPDATE llm_generation_queue SET enabled = TRUE WHERE provider_id = {provider}",
            database)  # fmt: skip
    lab.pump(database)
    # What the original called holds its slots for 50 s more: nobody knows here that it has ended.
    ended = lab.wait_ended(50 + 60, provider, database=database)
    states = lab.states(provider, database=database)
    tally.check(ended and set(states) == {"completed"}, "what is enabled runs", str(states))
    now = count_submissions(lab, "copied")
    tally.check(now == submitted + count, "each once, and nothing else", f"{submitted}, now {now}")


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
    tally.check(start_jobs(lab, providers, "copied"), "jobs are under way", log_tails([server]))
    since = time.time()
    for name, neutralize in (("copy", False), ("neutral", True)):
        made = wait_for(lambda: duplicate(server, lab.database, name, neutralize), 30, 0.5)  # noqa: B023
        tally.check(made, f"{name} is made", log_tails([server]))
    done = {
        group: lab.states(provider, database="copy").get("completed", 0)
        for group, provider in providers.items()
    }
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
    check_held(lab, tally, providers, "copy", submitted, done)
    check_enabled(lab, tally, providers["waits"], "copy", submitted)
    cancelled = len(lab.fake.calls("jobs", "cancel")) - asked
    tally.check(not cancelled, "copy: the original's jobs are not cancelled", str(cancelled))
    lab.servers[-1].stop()
    calls = len(lab.fake.calls())
    lab.start_servers(threaded=1, database="neutral")
    check_quiet(lab, tally, providers, calls)


def check_quiet(lab, tally, providers, calls):
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
