"""SIGTERM with calls in flight: the server ends soon, and its jobs end here or elsewhere."""

import signal
import time
from concurrent.futures import ThreadPoolExecutor

from evidence import check_completed, check_submissions, describe, log_tails
from fault_lab import FaultLab
from lib.commands import wait_for
from lib.say import run_main, step
from lib.tally import Tally
from weather_table import report

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
        step("the calls are in flight")
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
    return tally.close()


def queue_jobs(lab, mode, database):
    """Queue jobs that end soon, jobs that take long, and jobs that wait; return the providers."""
    found = {}
    for kind, service in (("chats", "faultchat"), ("sync", "fault")):
        group = f"{mode}-{kind}"
        lab.fake.order(group=group, match="short", delay=10, pieces=200)
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


if __name__ == "__main__":
    run_main(main)
