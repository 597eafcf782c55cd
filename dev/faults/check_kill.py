"""Servers are killed (`kill -9`) all the time: nothing is lost, stuck, or paid for unexplained."""

import os
import signal
import threading
import time
from collections import Counter

from evidence import check_completed, check_logs, check_submissions
from fault_lab import FaultLab
from lib.say import run_main, step
from lib.tally import Tally
from weather_table import report

#: Kills, and seconds between them.
KILLS, PAUSE = 7, 3
#: group: (service, jobs before each kill, limit)
LOADS = {"chats": ("faultchat", 60, 24), "sync": ("fault", 60, 24), "jobs": ("fault", 20, 40)}
#: Seconds after which a job that no living process runs is stuck.
STUCK = 120


def main():
    tally = Tally()
    with FaultLab("kill") as lab:
        lab.fake.order(group="chats", delay=[1, 3], pieces=6)
        lab.fake.order(group="sync", delay=[1, 3])
        lab.fake.order(group="jobs", delay=[0.1, 0.5], job_seconds=[1, 8])
        providers = {
            group: lab.add_provider(group, service, max_concurrent_jobs=limit)
            for group, (service, _jobs, limit) in LOADS.items()
        }
        lab.start_servers(threaded=2, prefork=2)
        lab.start_runners(lab.servers)
        kill_servers(lab, providers)
        since = time.time()
        ended = lab.wait_ended(STUCK + 30, *providers.values())
        tally.check(ended, "nothing is stuck after the last kill")
        fault = f"{KILLS} kills of servers and workers"
        report(lab, tally, fault, providers, since=since, explained={"worker_died"})
        for group, provider in providers.items():
            check_group(lab, tally, group, provider)
        check_logs(tally, lab.servers)
    return tally.close()


def kill_servers(lab, providers):
    """Kill a server that works, or one worker of it, and start it again; several times."""
    threads = []
    for number in range(KILLS):
        for group, (_service, count, _limit) in LOADS.items():
            keys = (f"job {number}.{one}" for one in range(count))
            lab.add_jobs(providers[group], keys)
        time.sleep(PAUSE)
        held = lab.runner_pids()
        busy = [one for one in lab.servers if one.process.pid in set(map(os.getsid, held))]
        server = lab.random.choice(busy or lab.servers)
        workers = [pid for pid in held if os.getsid(pid) == server.process.pid != pid]
        if workers and number % 2:  # Odoo starts a worker anew by itself
            os.kill(workers[0], signal.SIGKILL)
            step(f"killed a worker of {server.name}")
            continue
        server.kill()
        step(f"killed {server.name}")
        threads.append(threading.Thread(target=server.start, daemon=True))
        threads[-1].start()
    for thread in threads:
        thread.join()


def check_group(lab, tally, group, provider):
    jobs = lab.jobs(provider)
    check_completed(lab, tally, jobs, f"{group}: all are completed")
    explained = {"worker_died"}
    repeated = check_submissions(lab.fake, tally, jobs, group, explained=explained)
    attempts = [(job, one) for job in jobs for one in job["attempts"]]
    slow = [f"{job['key']}: {one}" for job, one in attempts if one["seconds"] > STUCK]
    tally.check(not slow, f"{group}: no attempt hung for {STUCK} s", "\n".join(slow[:9]))
    again = [f"{job['key']}: {one}" for job, one in attempts
             if one["external"] and one["error_type"] == "worker_died"]  # fmt: skip
    tally.check(not again, f"{group}: what the provider runs is adopted", "\n".join(again[:9]))
    most, limit = lab.fake.most(group), LOADS[group][2]
    tally.check(0 < most <= limit, f"{group}: at most {limit} at once", f"it was {most}")
    ends = Counter(one["error_type"] for _job, one in attempts if one["outcome"] != "completed")
    tally.check(set(ends) <= explained, f"{group}: attempts end by death only", str(ends))
    lasted = [one["seconds"] for _job, one in attempts if one["outcome"] != "completed"]
    step(
        f"{group}: {len(jobs)} jobs, {len(attempts)} attempts, unfinished ones: {dict(ends)},"
        f" noticed after at most {max(lasted, default=0):.0f} s;"
        f" {len(repeated)} submitted again, as the first outcome is unknown: {sorted(repeated)}"
    )


if __name__ == "__main__":
    run_main(main)
