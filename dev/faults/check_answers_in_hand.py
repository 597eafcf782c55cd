"""The disk is full, PostgreSQL takes no writes, the pool is empty: an answer in hand is kept."""

import time

from evidence import check_completed, check_submissions, describe, log_tails
from fault_lab import FaultLab
from lib.processes import wait_for
from lib.say import run_main, step
from lib.tally import Tally
from weather_table import report

#: Seconds that the disk is full, and that PostgreSQL takes no writes.
FULL, READ_ONLY = 30, 60
#: Connections of the pool of the last server.
POOL = 4


def main():
    tally = Tally()
    with FaultLab("in-hand") as lab:
        faults = lab.folder / "faults"
        faults.mkdir()
        [server] = lab.start_servers(threaded=1, env={"LLM_FAULT_CRASHES": str(faults)})
        lab.start_runners([server])
        check_disk_full(lab, tally, faults)
        check_read_only(lab, tally)
        server.stop()
        check_pool(lab, tally)
    return tally.close()


def check_disk_full(lab, tally, faults):
    """Half of each file is written; the other half fails."""
    providers = {
        "files": lab.add_provider("files", "fault"),
        "file-jobs": lab.add_provider("file-jobs", "fault", max_concurrent_jobs=10),
        "beside": lab.add_provider("beside", "faultchat"),
    }
    lab.fake.order(group="file-jobs", job_seconds=1)
    (faults / "disk-full").touch()
    for group in ("files", "file-jobs"):
        lab.add_jobs(providers[group], (f"file {one}" for one in range(9)))
    time.sleep(FULL / 2)
    lab.add_jobs(providers["beside"], (f"beside {one}" for one in range(9)))
    beside = lab.wait_ended(FULL / 2, providers["beside"])
    tally.check(beside, "what needs no file goes on", log_tails(lab.servers))
    (faults / "disk-full").unlink()
    check_end(lab, tally, "half-written files on a full disk", providers)


def check_read_only(lab, tally):
    """It becomes a copy that waits for its original, as after a failover gone wrong."""
    providers = {
        "chats": lab.add_provider("chats", "faultchat", max_concurrent_jobs=12),
        "sync": lab.add_provider("sync", "fault", max_concurrent_jobs=12),
    }
    # Their answers come while nothing can be written.
    for group in providers:
        lab.fake.order(group=group, delay=[15, 25], late_headers=True)
    for group, provider in providers.items():
        lab.add_jobs(provider, (f"{group} {one}" for one in range(18)))
    wait_for(lambda: len(lab.fake.calls("chats")) + len(lab.fake.calls("sync")) == 24, 30, 0.1)
    time.sleep(1)
    for group in providers:
        lab.fake.order(group=group, delay=1)
    (lab.cluster.data / "standby.signal").touch()
    lab.restart_postgres()
    step("PostgreSQL takes no writes")
    time.sleep(READ_ONLY)
    done = [call for call in lab.fake.calls(None, "chat", "create") if call["outcome"] == "ok"]
    tally.check(len(done) >= 24, "answers came meanwhile", str(len(done)))
    lab.cluster.sql("SELECT pg_promote()")
    check_end(lab, tally, f"PostgreSQL read-only for {READ_ONLY} s", providers)


def check_pool(lab, tally):
    lab.start_runners(lab.start_servers(threaded=1, args=(f"--db_maxconn={POOL}",)))
    providers = {"pool": lab.add_provider("pool", "faultchat", max_concurrent_jobs=20)}
    lab.fake.order(group="pool", delay=[0.2, 0.6], pieces=8)
    lab.add_jobs(providers["pool"], (f"pool {one}" for one in range(60)))
    check_end(lab, tally, f"a pool of {POOL} connections", providers)
    jobs = lab.jobs(providers["pool"])
    wasted = [job for job in jobs if len(job["attempts"]) > 1]
    tally.check(not wasted, "no attempt for what was not asked", describe(wasted))


def check_end(lab, tally, fault, providers):
    since = time.time()
    ended = lab.wait_ended(90, *providers.values())
    tally.check(ended, f"{fault}: nothing is stuck", log_tails(lab.servers))
    report(lab, tally, fault, providers, since=since, explained=())
    for group, provider in providers.items():
        jobs = lab.jobs(provider)
        check_completed(lab, tally, jobs, f"{fault}, {group}: all are completed")
        again = check_submissions(lab.fake, tally, jobs, group)
        tally.check(not again, f"{fault}, {group}: nothing is paid for twice", str(again))


if __name__ == "__main__":
    run_main(main)
