"""SIGTERM with calls in flight: the server ends soon, and its jobs end here or elsewhere.

And a worker of a prefork server that reaches its limit of processor time: Odoo ends its main
thread, the kernel says so again for each second that it works on, and its calls end nevertheless.
"""

import os
import resource
import signal
import time
from concurrent.futures import ThreadPoolExecutor

from evidence import check_completed, check_submissions, describe, log_tails
from fault_lab import FaultLab
from lib.processes import wait_for
from lib.say import run_main, step
from lib.tally import Tally
from weather_table import report

QUIET = True
#: Seconds that a server may take to end: Odoo's own service files wait longer.
END = 30
#: mode: keywords of `start_servers()`
MODES = {"threaded": {"threaded": 1}, "prefork": {"prefork": 1}}
KEYS = [f"{kind} {number}" for kind in ("short", "long", "waiting") for number in range(3)]


def main():
    tally = Tally()
    with FaultLab("shutdown") as lab:
        lab.add_database("prefork")
        databases = {"threaded": lab.database, "prefork": "prefork"}
        providers, servers = {}, {}
        for mode, database in databases.items():
            [servers[mode]] = lab.start_servers(database=database, **MODES[mode])
        for mode, database in databases.items():
            providers[mode] = queue_jobs(lab, mode, database)
        for mode in MODES:
            wait_for(lambda mode=mode: len(in_flight(lab, mode)) == 12, 30)
        calls = {mode: len(in_flight(lab, mode)) for mode in MODES}
        tally.check(set(calls.values()) == {12}, "all calls are in flight", str(calls))
        with ThreadPoolExecutor() as pool:
            took = dict(zip(MODES, pool.map(terminate, servers.values()), strict=True))
        for mode, database in databases.items():
            title = f"{mode}: ended within {END} s of SIGTERM"
            tally.check(took[mode] < END, title, f"{took[mode]:.1f} s")
            step(f"{mode}: ended after {took[mode]:.1f} s")
            check_stopped(lab, tally, mode, database, providers[mode])
        lab.fake.order(match="", delay=0.1)
        for server in servers.values():
            server.start(wait=False)
        for mode, database in databases.items():
            servers[mode].wait_ready()
            lab.pump(database)
            check_after(lab, tally, mode, database, providers[mode])
        check_processor_time(lab, tally, "prefork", servers["prefork"])
    return tally.close()


def queue_jobs(lab, mode, database):
    """Queue jobs that end soon, jobs that take long, and jobs that wait; return the providers."""
    found = {}
    for kind, service in (("chats", "faultchat"), ("sync", "fault")):
        group = f"{mode}-{kind}"
        lab.fake.order(group=group, match="short", delay=10, pieces=100)
        lab.fake.order(group=group, match="long", delay=300)
        found[group] = lab.add_provider(group, service, database=database, max_concurrent_jobs=6)
        lab.add_jobs(found[group], KEYS, database=database)
    return found


def in_flight(lab, mode):
    return [call for call in lab.fake.calls()
            if call["group"].startswith(mode) and call["outcome"] == "open"]  # fmt: skip


def terminate(server):
    begin = time.monotonic()
    server.process.send(signal.SIGTERM)
    wait_for(lambda: not server.process.is_alive(), 2 * END, 0.05)
    took = time.monotonic() - begin
    server.process.kill()
    return took


def check_stopped(lab, tally, mode, database, providers):
    for group, provider in providers.items():
        jobs = lab.jobs(provider, database)
        states = {job["key"]: job["state"] for job in jobs}
        wanted = {key: "completed" if key.startswith("short") else "queued" for key in KEYS}
        tally.check(
            states == wanted,
            f"{group}: what ends soon has ended, the rest waits again",
            f"{describe(jobs, 12)}\n{log_tails(lab.servers)}",
        )
        retries = [job for job in jobs if job["retry_count"]]
        tally.check(not retries, f"{group}: shutting down costs no retry", describe(retries))
    runners = lab.sql("SELECT count(*) FROM llm_generation_runner", database)
    tally.check(runners == "0", f"{mode}: the runner signed off", f"{runners} are left")


def check_after(lab, tally, mode, database, providers):
    since = time.time()
    ended = lab.wait_ended(90, *providers.values(), database=database)
    tally.check(ended, f"{mode}: the rest ends after the restart", log_tails(lab.servers))
    report(lab, tally, f"SIGTERM in the call, {mode}", providers, since=since,
           explained={None}, database=database)  # fmt: skip
    for group, provider in providers.items():
        jobs = lab.jobs(provider, database)
        check_completed(lab, tally, jobs, f"{group}: all are completed")
        repeated = check_submissions(lab.fake, tally, jobs, group, explained={None})
        tally.check(
            set(repeated) == {key for key in KEYS if key.startswith("long")},
            f"{group}: only what was given back was submitted again",
            str(repeated),
        )


def check_processor_time(lab, tally, database, server):
    keys = [f"busy {number}" for number in range(12)]
    lab.fake.order(group="busy", delay=12, pieces=800)
    provider = lab.add_provider("busy", "faultchat", database=database, max_concurrent_jobs=12)
    lab.add_jobs(provider, keys, database=database)
    wait_for(lambda: len(in_flight(lab, "busy")) == len(keys), 30)
    worker = busiest(lab, database)
    # The signal comes when the limit is reached, and again a whole second of work later.
    limit = int(used(worker)) + 1
    reached = wait_for(lambda: reaches(worker, limit, server), 12)
    tally.check(reached, "a worker with calls in flight reaches its limit", log_tails([server]))
    reached_at, spent = used(worker), []
    wait_for(lambda: spent.append(used(worker)) or spent[-1] is None, 20, 0.2)
    ended = lab.wait_ended(60, provider, database=database)
    tally.check(ended, "its jobs end", log_tails([server]))
    went_on = max(filter(None, spent)) - reached_at
    tally.check(went_on > 1, "it went on for another second of its processor's time", str(went_on))
    jobs = lab.jobs(provider, database)
    check_completed(lab, tally, jobs, "all of them are completed")
    check_submissions(lab.fake, tally, jobs, "busy", explained=set())
    gone = wait_for(lambda: used(worker) is None, 30)
    tally.check(gone, "then the worker ends", log_tails([server]))


def reaches(worker, limit, server):
    """Limit a worker's seconds of processor time; return whether it reached them."""
    # Odoo raises the limit with each request and every four seconds; the kernel by one, when it is
    # reached; a runner that waits for its calls lifts it.
    if resource.prlimit(worker, resource.RLIMIT_CPU)[0] > limit + 1:
        resource.prlimit(worker, resource.RLIMIT_CPU, (limit, resource.RLIM_INFINITY))
    return "CPU time limit" in server.log_text()


def busiest(lab, database):
    """Return the process that executes the most jobs."""
    names = lab.rows(
        "SELECT runner_name AS name FROM llm_generation_attempt WHERE outcome = 'running'"
        " GROUP BY runner_name ORDER BY count(*) DESC LIMIT 1",
        database,
    )
    return int(names[0]["name"].rpartition(":")[2])


def used(pid):
    """Return the seconds of processor time that a process has had; None of one that is gone."""
    try:
        with open(f"/proc/{pid}/stat", encoding="utf-8") as file:
            values = file.read().rpartition(")")[2].split()
    except FileNotFoundError:
        return None
    return sum(map(int, values[11:13])) / os.sysconf("SC_CLK_TCK")


if __name__ == "__main__":
    run_main(main)
