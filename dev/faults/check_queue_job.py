"""Jobs run in queue_job's workers, which are killed or lose their records: nothing is lost.

The job runner is queue_job's own. It runs on one server at a time and sends records to that one:
first to the workers of a prefork server, which are killed, then, when that server is gone as a
whole, to the threads of another.
"""

import os
import signal
import time

from bridge_lab import BridgeLab
from evidence import check_completed, check_logs, check_submissions
from fault_lab import ADMIN
from lib.lab import insist
from lib.processes import wait_for
from lib.say import halt, run_main, step
from lib.tally import Tally
from weather_table import report

#: Records that queue_job runs at once: fewer than the limits allow, so that some wait there.
AT_ONCE = 8
#: group: (service, jobs of each wave, limit)
LOADS = {"chats": ("faultchat", 24, 4), "sync": ("fault", 24, 4), "jobs": ("fault", 12, 6)}
#: The jobs whose records an administrator cancels, and their limit.
WITHDRAWN = ("withdrawn", 80, 40)
#: Seconds after which a job that no living process runs is stuck.
STUCK = 120


def main():
    tally = Tally()
    with BridgeLab("queue-job", at_once=AT_ONCE) as lab:
        lab.fake.order(group="chats", delay=[0.5, 1.5], pieces=6)
        lab.fake.order(group="sync", delay=[0.5, 1.5])
        lab.fake.order(group="jobs", delay=[0.1, 0.3], job_seconds=[1, 3])
        lab.fake.order(group=WITHDRAWN[0], delay=[0.5, 1.0])
        providers = {
            group: lab.add_provider(group, service, max_concurrent_jobs=limit)
            for group, (service, _jobs, limit) in LOADS.items()
        }
        first = lab.start_servers(prefork=1)
        # Where queue_job's runner starts first it stays: the worker processes are to be killed.
        if not wait_for(lambda: "database connections ready" in first[0].log_text(), 30):
            halt("the job runner of queue_job did not start.")
        others = lab.start_servers(threaded=1)
        lab.start_runners(lab.servers)
        cancel_records(lab, tally)
        kill_worker(lab, tally, providers)
        kill_server(lab, tally, providers, first[0], others[0])
        for group, provider in providers.items():
            check_group(lab, tally, group, provider)
        check_records(lab, tally)
        check_logs(tally, lab.servers)
    return tally.close()


def cancel_records(lab, tally):
    """Have an administrator cancel what waits in queue_job's own list."""
    group, count, limit = WITHDRAWN
    provider = lab.add_provider(group, "fault", max_concurrent_jobs=limit)
    lab.add_jobs(provider, (f"withdrawn {number}" for number in range(count)))

    def act(env):
        waiting = [("method_name", "=", "_run_claimed"), ("state", "=", "pending")]
        records = env["queue.job"].search(waiting)
        records.button_cancelled()
        return records.mapped("uuid")

    uuids = wait_for(lambda: insist(lab, lab.database, act, ADMIN), 30)
    tally.check(uuids, "records wait in queue_job")
    step(f"{len(uuids)} records of queue_job are cancelled")
    since = time.time()
    tally.check(lab.wait_ended(STUCK, provider), "what was withdrawn ends all the same")
    report(lab, tally, "queue_job: records cancelled by hand", {group: provider},
           since=since, explained=())  # fmt: skip
    jobs = lab.jobs(provider)
    check_completed(lab, tally, jobs, f"{group}: all are completed")
    back = [one for job in jobs for one in job["attempts"] if one["outcome"] != "completed"]
    tally.check(len(back) == len(uuids), "each cancelled record gave its job back", str(back))
    submitted = lab.fake.submissions(group)
    tally.check(len(submitted) == count and all(len(calls) == 1 for calls in submitted.values()),
                f"{group}: every job was submitted once", str(len(submitted)))  # fmt: skip
    most = lab.fake.most(group)
    tally.check(0 < most <= limit, f"{group}: at most {limit} at once", f"it was {most}")


def add_wave(lab, providers, name):
    for group, (_service, count, _limit) in LOADS.items():
        lab.add_jobs(providers[group], (f"{name} {number}" for number in range(count)))


def busy_pids(lab):
    """Return the processes in which queue_job runs jobs of ours just now."""
    rows = lab.rows(
        "SELECT DISTINCT split_part(split_part(runner_name, ':', 2), ' ', 1)::int AS pid"
        " FROM llm_generation_attempt a JOIN llm_generation_job j ON j.attempt_token = a.id"
        " WHERE j.state = 'running' AND j.external_job_id IS NULL"
        " AND a.queue_job_begun_at IS NOT NULL"
    )
    return {row["pid"] for row in rows}


def wait_busy(lab):
    """Wait until the provider is at work; return who waits for it."""
    at_work = {"chats", "sync"}
    wait_for(lambda: any(call["outcome"] == "open" and call["group"] in at_work
                         for call in lab.fake.calls()), 30, 0.05)  # fmt: skip
    return busy_pids(lab)


def kill_worker(lab, tally, providers):
    add_wave(lab, providers, "worker")
    pids = wait_busy(lab)
    servers = {server.process.pid: server for server in lab.servers}
    victims = [pid for pid in pids if pid not in servers]
    if not tally.check(victims, "the workers of a prefork server execute jobs", str(pids)):
        return
    name = servers[os.getsid(victims[0])].name
    before = deaths(lab)
    os.kill(victims[0], signal.SIGKILL)
    step(f"killed a worker of {name}")
    end_wave(lab, tally, providers, "queue_job: a worker killed", before)


def kill_server(lab, tally, providers, leader, other):
    add_wave(lab, providers, "server")
    wait_busy(lab)
    before = deaths(lab)
    leader.kill()
    step(f"killed {leader.name} with queue_job's runner; {other.name} is left")
    end_wave(lab, tally, providers, "queue_job: its server gone unnoticed", before)
    tally.check(other.process.pid in lab.worker_pids(), "the other server went on")


def end_wave(lab, tally, providers, fault, before):
    since = time.time()
    tally.check(lab.wait_ended(STUCK, *providers.values()), f"{fault}: nothing is stuck")
    report(lab, tally, fault, providers, since=since, explained={"worker_died"})
    noticed = deaths(lab) - before
    tally.check(noticed, f"{fault}: attempts ended by it")
    step(f"{fault}: {noticed} attempts ended by it")


def deaths(lab):
    statement = "SELECT count(*) FROM llm_generation_attempt WHERE error_type = 'worker_died'"
    return int(lab.sql(statement))


def check_group(lab, tally, group, provider):
    jobs = lab.jobs(provider)
    check_completed(lab, tally, jobs, f"{group}: all are completed")
    check_submissions(lab.fake, tally, jobs, group, explained={"worker_died"})
    most, limit = lab.fake.most(group), LOADS[group][2]
    tally.check(0 < most <= limit, f"{group}: at most {limit} at once", f"it was {most}")
    runners = {one["runner"] for job in jobs for one in job["attempts"]
               if one["outcome"] == "completed"}  # fmt: skip
    ours = sorted(name for name in runners if not name.endswith(" queue_job"))
    tally.check(runners and not ours, f"{group}: all ran in queue_job's workers", str(ours))
    step(f"{group}: {most} at once at most, in {len(runners)} processes")


def check_records(lab, tally):
    """queue_job is left with nothing that it would run, or run again."""
    live = (
        "SELECT count(*) FROM queue_job WHERE method_name = '_run_claimed'"
        " AND state NOT IN ('done', 'cancelled', 'failed')"
    )
    settled = wait_for(lambda: lab.sql(live) == "0", 60, 0.5)
    states = lab.rows("SELECT state, count(*) AS n FROM queue_job GROUP BY state")
    tally.check(settled, "no record of queue_job is left behind", str(states))
    step(f"records of queue_job: {states}")


if __name__ == "__main__":
    run_main(main)
