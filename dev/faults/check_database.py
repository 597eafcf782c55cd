"""PostgreSQL restarts, and crashes, under load; nobody restarts Odoo."""

import signal
import time
from collections import Counter

from evidence import EXPLAINED, check_completed, check_submissions, log_tails
from fake_book import marked
from fault_lab import FaultLab
from lib.processes import wait_for
from lib.say import run_main, step
from lib.tally import Tally
from weather_table import report

#: group: (service, jobs before each restart, limit)
LOADS = {"chats": ("faultchat", 60, 4), "sync": ("fault", 60, 4), "jobs": ("fault", 20, 20)}


def main():
    tally = Tally()
    with FaultLab("database") as lab:
        lab.cluster.quick = False  # what was committed must survive a crash
        lab.restart_postgres()
        lab.fake.order(group="chats", delay=[0.1, 0.4], pieces=3)
        lab.fake.order(group="sync", delay=[0.1, 0.4])
        lab.fake.order(group="jobs", job_seconds=[1, 6])
        providers = {
            group: lab.add_provider(group, service, max_concurrent_jobs=limit)
            for group, (service, _jobs, limit) in LOADS.items()
        }
        [threaded] = lab.start_servers(threaded=1)
        lab.restart_postgres()
        check_rpc(lab, tally, providers["sync"], threaded, "after a restart in quiet times")
        [prefork] = lab.start_servers(prefork=1)
        lab.start_runners(lab.servers)
        pid = threaded.process.pid
        for number, signum in enumerate((signal.SIGINT, signal.SIGQUIT, signal.SIGINT)):
            for group, (_service, count, _limit) in LOADS.items():
                keys = (f"job {number}.{one}" for one in range(count))
                lab.add_jobs(providers[group], keys)
            time.sleep(1.5)
            lab.restart_postgres(signum)
            step(f"PostgreSQL is back after {signum.name}")
            serve_again(tally, prefork)
        since = time.time()
        ended = lab.wait_ended(300, *providers.values())
        tally.check(ended, "nothing is stuck after the last restart", log_tails(lab.servers))
        report(lab, tally, "PostgreSQL restarted and crashed", providers, since=since)
        for group, provider in providers.items():
            check_group(lab, tally, group, provider)
        tally.check(threaded.process.is_alive() and threaded.process.pid == pid,
                    "the threaded server was not restarted")  # fmt: skip
        check_rpc(lab, tally, providers["sync"], threaded, "after restarts under load")
    return tally.close()


def serve_again(tally, prefork):
    """Start a prefork server again that ended, as a service manager would.

    The master of Odoo ends by itself when it makes a worker while the database is away. That is
    its own way; nothing else may end it.
    """
    wait_for(lambda: not prefork.process.is_alive(), 3)
    if not prefork.process.is_alive():
        tally.check(
            "Stopping forcefully" in prefork.log_text(),
            "only Odoo itself ends the prefork server",
            log_tails([prefork]),
        )
        prefork.start()
        step(f"{prefork.name} had ended itself, and serves again")


def check_group(lab, tally, group, provider):
    jobs = lab.jobs(provider)
    check_completed(lab, tally, jobs, f"{group}: all are completed")
    repeated = check_submissions(lab.fake, tally, jobs, group, explained=EXPLAINED)
    attempts = [one for job in jobs for one in job["attempts"]]
    ends = Counter(one["error_type"] for one in attempts if one["outcome"] != "completed")
    tally.check(set(ends) <= EXPLAINED, f"{group}: attempts end for a known reason", str(ends))
    most, limit = lab.fake.most(group), LOADS[group][2]
    tally.check(0 < most <= limit, f"{group}: at most {limit} at once", f"it was {most}")
    step(
        f"{group}: {len(jobs)} jobs, {len(attempts)} attempts, unfinished ones: {dict(ends)};"
        f" {len(repeated)} submitted again: {repeated}"
    )


def check_rpc(lab, tally, provider, server, when):
    """The threaded server runs what is queued over RPC."""
    [thread, model] = lab.add_thread(provider, when)
    values = {"thread_id": thread, "model_id": model, "generation_inputs": {"prompt": marked(when)}}
    job_ids = server.call("llm.generation.job", "create", [values])
    server.call("llm.generation.job", "action_queue", job_ids)
    tally.check(lab.wait_ended(20, provider), f"a job is run {when}", log_tails([server]))


if __name__ == "__main__":
    run_main(main)
