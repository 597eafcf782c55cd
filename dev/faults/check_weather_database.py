"""Statements time out, connections are cut all the time, and the disk for files is full."""

import time

from evidence import EXPLAINED, check_completed, check_logs, log_tails
from fault_lab import FaultLab
from lib.lab import insist
from lib.postgres import USER
from lib.processes import wait_for
from lib.say import run_main, step
from lib.tally import Tally
from weather_table import report

#: group: (service, jobs for each fault, limit)
LOADS = {"chats": ("faultchat", 24, 6), "sync": ("fault", 24, 6), "jobs": ("fault", 12, 12)}
#: Seconds that a fault lasts, and between two cuts.
LASTS, PAUSE = 6, 0.4
KILL = """
    SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity
    WHERE datname = '{database}' AND pid <> pg_backend_pid()
"""
#: Jobs that run are locked for longer than a statement may take.
LOCK = """
    SET statement_timeout = 0;
    BEGIN; SELECT id FROM llm_generation_job WHERE state = 'running' FOR UPDATE;
    SELECT pg_sleep(1); COMMIT;
"""


def main():
    tally = Tally()
    with FaultLab("weather-database") as lab:
        faults = lab.folder / "faults"
        faults.mkdir()
        lab.fake.order(group="chats", delay=[0.3, 0.8], pieces=3)
        lab.fake.order(group="sync", delay=[0.3, 0.8])
        lab.fake.order(group="jobs", job_seconds=[1, 4])
        providers = {
            group: lab.add_provider(group, service, max_concurrent_jobs=limit)
            for group, (service, _jobs, limit) in LOADS.items()
        }
        servers = lab.start_servers(threaded=2, env={"LLM_FAULT_CRASHES": str(faults)})
        lab.start_runners(servers)
        check_fault(lab, tally, providers, "connections cut", cut_connections)
        check_fault(lab, tally, providers, "statement timeout of 250 ms", time_out_statements)
        check_disk_full(lab, tally, faults)
        check_logs(tally, servers)
    return tally.close()


def check_fault(lab, tally, providers, name, fault):
    for group, (_service, count, _limit) in LOADS.items():
        lab.add_jobs(providers[group], (f"{name} {one}" for one in range(count)))
    wait_for(lambda: lab.fake.calls("chats") and lab.fake.calls("sync"), 20, 0.1)
    met = fault(lab)
    since = time.time()
    step(f"{name}: over, {met}")
    ended = lab.wait_ended(120, *providers.values())
    tally.check(ended, f"{name}: nothing is stuck", log_tails(lab.servers))
    report(lab, tally, name, providers, since=since)
    for group, provider in providers.items():
        check_completed(lab, tally, lab.jobs(provider), f"{name}, {group}: all are completed")


def cut_connections(lab):
    """Cut all connections of the database, again and again; return how many they were."""
    end, cut = time.monotonic() + LASTS, 0
    while time.monotonic() < end:
        cut += int(lab.cluster.sql(KILL.format(database=lab.database)))
        time.sleep(PAUSE)
    return f"{cut} connections"


def time_out_statements(lab):
    """Let statements last a quarter of a second, and hold what they need for longer."""
    lab.cluster.sql(f"ALTER ROLE {USER} SET statement_timeout = '250ms'")
    lab.cluster.sql(KILL.format(database=lab.database))  # new sessions obey it
    end = time.monotonic() + LASTS
    while time.monotonic() < end:
        lab.sql(LOCK)
        time.sleep(PAUSE)
    lab.cluster.sql(f"ALTER ROLE {USER} RESET statement_timeout")
    lab.cluster.sql(KILL.format(database=lab.database))
    log = lab.cluster.log.read_text(errors="replace")
    return f"{log.count('canceling statement due to statement timeout')} statements"


def process_now(env, provider):
    """End the queue's pause, as a manager does who has freed some space."""
    env["llm.generation.queue"]._get_or_create_queue(provider).action_process_queue()


def check_disk_full(lab, tally, faults):
    """Answers come with a file, and there is no room for it for a while."""
    providers = {
        "files": lab.add_provider("files", "fault"),
        "file-jobs": lab.add_provider("file-jobs", "fault"),
    }
    lab.fake.order(group="file-jobs", job_seconds=1)
    (faults / "disk-full").touch()
    for provider in providers.values():
        lab.add_jobs(provider, (f"file {one}" for one in range(6)))
    tried = wait_for(lambda: lab.fake.calls("files") and
                     len(lab.fake.calls("file-jobs", "check")) >= 6, 30, 0.1)  # fmt: skip
    time.sleep(3)
    tally.check(tried, "answers came while the disk was full")
    paid = len(lab.fake.calls("files"))
    tally.check(paid <= 6, "nobody pays for more answers while there is no room", f"{paid} calls")
    done = lab.states(*providers.values()).get("completed", 0)
    tally.check(not done, "no answer is taken without its file", f"{done} were")
    (faults / "disk-full").unlink()
    since = time.time()
    insist(lab, lab.database, lambda env: process_now(env, providers["files"]))
    ended = lab.wait_ended(60, *providers.values())
    tally.check(ended, "disk full: nothing is stuck", log_tails(lab.servers))
    report(lab, tally, "the disk for files full", providers, since=since,
           explained=EXPLAINED & {"unknown_outcome"})  # fmt: skip
    jobs = [job for provider in providers.values() for job in lab.jobs(provider)]
    check_completed(lab, tally, jobs, "disk full: all are completed")
    again = [key for key, calls in lab.fake.submissions("file-jobs").items() if len(calls) > 1]
    tally.check(not again, "what the provider keeps is asked for again, not made anew", str(again))
    rows = lab.rows(
        "SELECT count(DISTINCT m.id) AS n FROM mail_message m"
        " JOIN message_attachment_rel r ON r.message_id = m.id"
        " JOIN ir_attachment a ON a.id = r.attachment_id AND a.store_fname IS NOT NULL"
        " WHERE m.model = 'llm.thread'"
    )
    tally.check(rows[0]["n"] == len(jobs), "each answer has its file", str(rows))


if __name__ == "__main__":
    run_main(main)
