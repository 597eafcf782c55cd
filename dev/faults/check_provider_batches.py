"""Economy jobs in batches of their provider, whose server is killed at random: all end, once.

First a thousand of them in one batch of each wire format, with answers in any order and errors in
between. Then a process is killed (`kill -9`) a hundred times while small batches are submitted,
asked about and stored: no batch is submitted twice, no job is lost, each answer is stored once, and
the tokens of our batches are those of the provider's bill.
"""

import contextlib
import json
import os
import signal
import sys
import time
import urllib.request
from collections import Counter

from evidence import check_logs, log_tails
from fake_book import marked
from fault_lab import ADMIN, FOLDER, UNTRACKED, FaultLab
from lib import fault_table, processes
from lib.lab import environment
from lib.processes import wait_for
from lib.say import halt, run_main, step
from lib.tally import Tally

MANY = 1000
#: The service of each group of the fake.
SERVICES = {"openai": "openai", "anthropic": "anthropic", "router": "openai", "gemini": "openai"}
KILLS = int(os.environ.get("LLM_TEST_KILLS", "100"))
#: Jobs before each kill, and seconds until it.
JOBS, PAUSE = 8, (0.2, 1.2)
#: A job that runs by itself may die with its server more often than a day would bring about.
RETRIES = 20
#: Seconds after its date in which a job has to start, on a busy machine.
LATE = 10
#: How the keys of jobs begin, and how often: see fake_batches.py.
KINDS = (*["job"] * 16, "refused", "failed", "undone", "expired")
#: Seconds that a step has, as text: more where nobody dies.
LEASE, LONG_LEASE = "3", "300"


def main():
    tally = Tally()
    with FaultLab("provider-batches") as lab:
        fake = Fake(lab.folder)
        lab.random.seed(19)
        (server,) = lab.start_servers(threaded=1, env={"LLM_FAULT_BATCHES": LONG_LEASE})
        for name, service in SERVICES.items():
            check_many(lab, tally, fake, f"{name}-many", service)
        check_endless(lab, tally, fake)
        server.stop()
        lab.start_servers(prefork=1, env={"LLM_FAULT_BATCHES": LEASE})
        check_kills(lab, tally, fake)
        check_logs(tally, lab.servers)
    return tally.close()


class Fake:
    """The fake provider of batches, in a process of its own."""

    def __init__(self, folder):
        self.port, self.desk_port = processes.free_port(), processes.free_port()
        processes.start(
            [sys.executable, FOLDER / "fake_batches.py", self.port, self.desk_port],
            folder / "fake_batches.log",
        )
        if wait_for(self._is_ready, 10) is None:
            halt(f"the fake provider did not start: see {folder / 'fake_batches.log'}.")

    def _is_ready(self):
        with contextlib.suppress(OSError):
            return self.told() is not None
        return None

    def _ask(self, values=None):
        data = None if values is None else json.dumps(values).encode()
        with urllib.request.urlopen(f"http://127.0.0.1:{self.desk_port}/", data, 30) as answer:
            return json.load(answer)

    def told(self):
        return self._ask()

    def order(self, group, **order):
        self._ask({"group": group, **order})


def add_provider(lab, fake, group, service, **queue_values):
    provider_id = lab.add_provider(group, service, max_concurrent_jobs=20)
    with environment(lab, lab.database) as env:
        provider = env["llm.provider"].browse(provider_id)
        version = "v1beta/openai" if group.startswith("gemini") else "v1"
        provider.api_base = f"http://127.0.0.1:{fake.port}/{group}/{version}"
        queue = env["llm.generation.queue"]._get_or_create_queue(provider)
        queue.write({"uses_batches": True, **queue_values})
    return provider_id


def add_jobs(lab, provider_id, keys):
    """Queue jobs that run when idle, each in a thread of its own."""
    with environment(lab, lab.database, ADMIN) as env:
        jobs = env(context={**env.context, **UNTRACKED})["llm.generation.job"]
        model = jobs.env["llm.provider"].browse(provider_id).model_ids
        prompts = [marked(key) for key in keys]
        jobs.create_batch(prompts, model=model, is_economy=True, max_retries=RETRIES)


def batches(lab, provider_id):
    return lab.rows(
        f"SELECT * FROM llm_generation_provider_batch WHERE provider_id = {provider_id} ORDER BY id"
    )


def check_many(lab, tally, fake, group, service):
    provider = add_provider(lab, fake, group, service, batch_jobs=MANY)
    fake.order(group, batch_seconds=3)
    keys = [f"{lab.random.choice(KINDS)} {number}" for number in range(MANY)]
    begin = time.time()
    add_jobs(lab, provider, keys)
    done = wait_for(
        lambda: any(one["state"] == "done" for one in batches(lab, provider)), 200, 0.25
    )
    tally.check(done, f"{group}: the batch is done", log_tails(lab.servers))
    step(f"{group}: {MANY} jobs were answered in a batch after {time.time() - begin:.1f} s")
    ended = lab.wait_ended(240, provider)
    tally.check(ended, f"{group}: all end", log_tails(lab.servers))
    told = fake.told()[group]
    tally.check(len(told["batches"]) == 1, f"{group}: one submission", str(told["batches"])[:300])
    check_ends(lab, tally, told, provider, group, set())


def check_endless(lab, tally, fake):
    """A batch that never ends, and cannot be cancelled, makes no job late."""
    provider = add_provider(lab, fake, "endless", "openai", batch_jobs=JOBS)
    fake.order("endless", batch_seconds=10**6, cancels=False)
    add_jobs(lab, provider, [f"job {number}" for number in range(JOBS)])
    running = wait_for(lambda: any(one["external_id"] for one in batches(lab, provider)), 60)
    tally.check(running, "endless: the batch is at the provider", log_tails(lab.servers))
    date = time.time() + 5
    lab.sql(f"""
        UPDATE llm_generation_job SET scheduled_at = to_timestamp({date}) AT TIME ZONE 'UTC'
        WHERE provider_id = {provider}
    """)
    ended = lab.wait_ended(60, provider)
    tally.check(ended, "endless: all end", log_tails(lab.servers))
    (told,) = lab.rows(f"""
        SELECT EXTRACT(EPOCH FROM max(started_at)) AS last FROM llm_generation_job
        WHERE provider_id = {provider} AND state = 'completed'
    """)
    late = (told["last"] or 0) - date
    step(f"endless: {JOBS} jobs, the last of which started {late:.1f} s after its date")
    tally.check(-1 <= late < LATE, "endless: no job is late", f"{late} s")
    chats = fake.told()["endless"]["chats"]
    tally.check(list(chats.values()) == [1] * JOBS, "endless: each is paid for once", str(chats))


def check_kills(lab, tally, fake):
    groups = {}
    for name, service in SERVICES.items():
        group = f"{name}-killed"
        groups[group] = add_provider(lab, fake, group, service, batch_jobs=20, batch_minutes=0)
        fake.order(group, batch_seconds=[0.2, 2], delay=[0.0, 0.15])
    killed = Counter()
    for number in range(KILLS):
        provider = list(groups.values())[number % len(groups)]
        keys = [f"{lab.random.choice(KINDS)} {number}.{one}" for one in range(JOBS)]
        add_jobs(lab, provider, keys)
        time.sleep(lab.random.uniform(*PAUSE))
        pids = lab.runner_pids()
        if not pids:
            lab.pump()
            wait_for(lab.runner_pids, 10, 0.05)
            pids = lab.runner_pids()
        states = {
            one["state"] for each in groups.values() for one in batches(lab, each)
            if one["next_step_at"]
        }  # fmt: skip
        for pid in pids:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        killed.update(states)
        lab.pump()
    step(f"{KILLS} kills, while batches were: {dict(killed)}")
    since = time.time()
    duplicated, jobs = 0, []
    for group, provider in groups.items():
        ended = lab.wait_ended(200, provider)
        over = wait_for(lambda: not any(one["next_step_at"] for one in batches(lab, provider)), 60)  # noqa: B023
        tally.check(ended and over, f"{group}: all end, and their batches", log_tails(lab.servers))
        told = fake.told()[group]
        check_ends(lab, tally, told, provider, group, {"worker_died"})
        duplicated += twice(told)
        jobs += lab.jobs(provider)
    ends = [job["ended"] for job in jobs if job["ended"]]
    lost = [job for job in jobs if job["state"] not in {"completed", "failed"}]
    fault_table.hand_over(
        fault_table.Row(
            script="check_provider_batches",
            fault=f"{KILLS} kills around batches of a provider",
            jobs=len(jobs),
            lost=len(lost) + KILLS * JOBS - len(jobs),
            duplicated=duplicated,
            unexplained=duplicated,
            stuck=len(lost),
            recovered=max(0.0, max(ends, default=since) - since),
        )
    )


def twice(told):
    """Return how many batches were submitted that had been before."""
    keys = Counter(one["key"] for one in told["batches"])
    return sum(keys.values()) - len(keys)


def check_ends(lab, tally, told, provider, group, explained):
    """Check that each job ended as its key says, once, and that nobody pays for more."""
    jobs = lab.jobs(provider)
    odd = []
    for job in jobs:
        kind, chats = job["key"].split()[0], told["chats"].get(job["key"], 0)
        is_refused = kind == "refused"
        wanted = "failed" if is_refused else "completed"
        answers = len(job["answers"])
        paid = chats + (job["key"] in told["answered"])
        died = sum(one["error_type"] in explained for one in job["attempts"])
        if job["state"] != wanted or answers != (not is_refused):
            odd.append(f"{job['key']}: {job['state']}, {answers} answers, {job['error_message']}")
        elif paid > (not is_refused) + died:
            odd.append(f"{job['key']}: paid {paid} times, {job['attempts']}")
    tally.check(not odd, f"{group}: each job ends right, and is paid for once", "\n".join(odd[:9]))
    tally.check(not twice(told), f"{group}: no batch was submitted twice", str(twice(told)))
    ours = batches(lab, provider)
    bill = [sum(one[f"{kind}_tokens"] or 0 for one in ours) for kind in ("prompt", "completion")]
    tally.check(bill == told["bill"], f"{group}: the bill is our tokens", f"{bill} {told['bill']}")
    failed = [one["error_message"] for one in ours if one["state"] == "failed"]
    tally.check(not failed, f"{group}: no batch failed", str(failed[:5]))
    sums = {name: sum(one[f"{name}_count"] or 0 for one in ours)
            for name in ("completed", "failed", "returned", "late")}  # fmt: skip
    step(f"{group}: {len(jobs)} jobs, {len(ours)} batches, {sums}, bill {bill}")


if __name__ == "__main__":
    run_main(main)
