"""Three servers, one PostgreSQL, 10,000 jobs of 0.2 s, one server stopped in the middle: make load.

Two of the servers are prefork and one is threaded. The limits of the four providers hold across
all of them, nothing is lost or done twice, and the slots are used for nine tenths of the time.

With VIA=queue_job, queue_job runs the jobs, on one of three threaded servers at a time, as it does:
that server is the one that is stopped. The time is printed, and held to no bar.
"""

import os
import sys
import time
from collections import Counter
from itertools import accumulate
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "faults"))

from bridge_lab import BridgeLab
from fault_lab import ADMIN, UNTRACKED, FaultLab
from lib import peer
from lib.lab import environment
from lib.processes import wait_for
from lib.say import halt, run_main, say, step
from lib.tally import Tally

JOBS, SECONDS = 10_000, 0.2
#: Slots of all providers together, shared out evenly.
PROVIDERS, SLOTS = 4, 60
LIMIT = SLOTS // PROVIDERS
#: Seconds that the jobs take when no slot is ever empty, and the share of it to be reached.
IDEAL, SHARE = JOBS * SECONDS / SLOTS, 0.9
#: Threads that a provider's jobs are spread over.
THREADS = 20
VIA = os.environ.get("VIA", "")
#: A record of queue_job keeps a connection as long as it runs, and each call needs others.
CONNECTIONS = "--db_maxconn=150"


def main():
    tally = Tally()
    with open_lab() as lab:
        book = lab.folder / "book.txt"
        book.touch()
        providers = [add_provider(lab, number, book) for number in range(PROVIDERS)]
        servers = start_servers(lab)
        lab.start_runners(servers)
        for provider in providers:
            add_jobs(lab, provider)
        step(f"{JOBS} jobs wait")
        homes = homes_of(lab, servers)
        with environment(lab, lab.database) as env:
            env["llm.generation.queue"].search([("provider_id", "in", providers)]).action_enable()
        begin = time.time()
        # Looking is work, too: each look at the database is a process that shares its cores.
        half = wait_for(lambda: lines(book) >= JOBS / 2, 10 * IDEAL, 0.25)
        tally.check(half, "half of the jobs end")
        homes |= homes_of(lab, servers)
        leaver = busiest(lab, providers, homes, servers) if VIA else servers[1]
        step(f"half of them have ended, {leaver.name} is stopped")
        leaver.stop()
        wait_for(lambda: lines(book) >= JOBS, 10 * IDEAL, 0.5)
        tally.check(lab.wait_ended(10 * IDEAL, *providers), "the jobs end in time")
        judge(lab, tally, providers, calls_of(book), begin)
        homes |= homes_of(lab, servers)
        check_servers(tally, shares(lab, providers, homes), servers)
    return tally.close()


def open_lab():
    if VIA not in {"", peer.MODULE}:
        halt(f"VIA={VIA}: there is only VIA={peer.MODULE}.")
    return BridgeLab("load", at_once=SLOTS) if VIA else FaultLab("load")


def start_servers(lab):
    if VIA:
        return lab.start_servers(threaded=3, cron=1, args=[CONNECTIONS])
    return lab.start_servers(threaded=1, prefork=2, cron=1)


def busiest(lab, providers, homes, servers):
    counts = shares(lab, providers, homes)
    return max(servers, key=lambda server: counts[server.name])


def add_provider(lab, number, book):
    provider = lab.add_provider(
        f"load{number}", "faultbook", max_concurrent_jobs=LIMIT, enabled=False
    )
    with environment(lab, lab.database) as env:
        env["llm.provider"].browse(provider).api_base = str(book)
    return provider


def add_jobs(lab, provider_id):
    count = JOBS // PROVIDERS
    with environment(lab, lab.database, ADMIN) as env:
        env = env(context={**env.context, **UNTRACKED})
        model = env["llm.provider"].browse(provider_id).model_ids
        base = {"provider_id": provider_id, "model_id": model.id}
        threads = env["llm.thread"].create([{"name": str(n), **base} for n in range(THREADS)])
        env["llm.generation.job"].create([
            {
                "thread_id": threads[number % THREADS].id,
                "generation_inputs": {"key": f"{provider_id}.{number}", "seconds": SECONDS},
                **base,
            }
            for number in range(count)
        ]).action_queue()


def homes_of(lab, servers):
    """Return {process: server's name} of the processes that have a runner now."""
    names = {server.process.pid: server.name for server in servers}
    pids = lab.runner_pids() | (lab.worker_pids() if VIA else set())
    return {pid: names.get(os.getsid(pid), "?") for pid in pids}


def lines(book):
    return book.read_bytes().count(b"\n")


def calls_of(book):
    """Return (key, process, begin, end) of each call."""
    rows = (line.split() for line in book.read_text().splitlines())
    return [(key, int(pid), float(begin), float(end)) for key, pid, begin, end in rows]


def judge(lab, tally, providers, calls, begin):
    states = lab.states(*providers)
    tally.check(states == {"completed": JOBS}, "every job is completed", str(states))
    calls_by_key = Counter(key for key, *_rest in calls)
    again = [key for key, count in calls_by_key.items() if count > 1]
    tally.check(not again, "no job was done twice", str(again[:9]))
    tally.check(len(calls_by_key) == JOBS, "every job was done", str(len(calls_by_key)))
    for provider in providers:
        mine = [call for call in calls if call[0].startswith(f"{provider}.")]
        most = most_at_once(mine)
        tally.check(0 < most <= LIMIT, f"at most {LIMIT} at once", f"it was {most}")
    took = max(end for *_call, end in calls) - begin
    share = IDEAL / took
    say(f"{JOBS} jobs of {SECONDS} s at limit {SLOTS}: {took:.1f} s, ideal {IDEAL:.1f} s: "
        f"{share:.1%} of the ideal")  # fmt: skip
    if not VIA:
        tally.check(share >= SHARE, f"at least {SHARE:.0%} of the ideal", f"{share:.1%}")


def most_at_once(calls):
    """Return how many calls were at work at the same time."""
    moments = [(begin, 1) for *_call, begin, _end in calls]
    moments += [(end, -1) for *_call, end in calls]
    return max(accumulate(change for _moment, change in sorted(moments)), default=0)


def shares(lab, providers, homes):
    """Return {server: jobs}."""
    counts = Counter()
    for row in lab.rows(f"""
        SELECT a.runner_name, count(*) AS n
        FROM llm_generation_attempt a JOIN llm_generation_job j ON j.id = a.job_id
        WHERE a.outcome = 'completed' AND j.provider_id IN ({", ".join(map(str, providers))})
        GROUP BY 1
    """):
        pid = int(row["runner_name"].rpartition(":")[2].split()[0])
        counts[homes.get(pid, "?")] += row["n"]
    return counts


def check_servers(tally, counts, servers):
    say("\nserver       jobs")
    for name, count in sorted(counts.items()):
        say(f"{name:<10}{count:>7}")
    if VIA:
        tally.check(len(counts) > 1, "another server went on", str(counts))
        return
    for server in servers:
        tally.check(counts[server.name] > 0, f"{server.name} took part")


if __name__ == "__main__":
    run_main(main)
