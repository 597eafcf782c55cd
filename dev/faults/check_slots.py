"""A slot is free when its call has ended: no provider sees more than the limit, whatever ends jobs.

Jobs are cancelled, time out, are given back by a server that is told to stop, or cannot be stopped
at all; before the headers of the answer, in its body, in a stream, or while the provider runs them.
Beside them another provider is as fast as ever; also beside providers that answer nothing.
"""

import signal
import statistics
import time

from evidence import describe, log_tails
from fault_lab import FaultLab
from lib.processes import wait_for
from lib.say import run_main, step
from lib.tally import Tally
from weather_table import report

LIMIT = 3
#: Seconds that a call takes that nobody ends, and one that nobody can end.
LONG, DEAF = 90, 25
#: kind: (service, what the provider does with a long job)
KINDS = {
    "headers": ("faultchat", {"delay": LONG, "late_headers": True}),
    "body": ("fault", {"delay": LONG, "late_body": True}),
    "stream": ("faultchat", {"delay": LONG, "pieces": 2 * LONG}),
    "external": ("fault", {"job_seconds": LONG}),
}
#: What ends the long jobs, and in how many seconds their slots are free at most: a call that is
#: submitted has five to say its id, timeouts are looked at each ten, a server has its grace.
ENDS = {"cancel": 9, "timeout": 30, "deaf": DEAF + 25}
TERMINATE = 40
TIMEOUT = 8
#: Providers that answer nothing, of five jobs each: as many as a server has threads, and more.
SILENT = 13
#: External jobs whose provider says nothing when it is asked about them.
UNTOLD = 40
#: What its other half may take of a healthy provider's time.
SLOWER = 2.0
#: Holds something to a bar in seconds.
QUIET = True


def main():
    tally = Tally()
    with FaultLab("slots") as lab:
        servers = lab.start_servers(threaded=2)
        lab.start_runners(servers)
        healthy = lab.add_provider("healthy", "faultchat", max_concurrent_jobs=LIMIT)
        lab.fake.order(group="healthy", delay=1.5)
        alone = median_of(lab, healthy, "alone")
        step(f"a healthy provider's median is {alone:.2f} s")
        check_ends(lab, tally, healthy, alone)
        check_terminate(lab, tally, servers, healthy, alone)
        check_silent(lab, tally, healthy, alone)
    return tally.close()


def median_of(lab, provider, what):
    """Return the seconds from queueing to its end of the median of some jobs of a provider."""
    ids = lab.add_jobs(provider, [f"{what} {number}" for number in range(4 * LIMIT)])
    queued = time.time()
    lab.wait_ended(60, provider)
    ended = [job for job in lab.jobs(provider) if job["id"] in ids and job["state"] == "completed"]
    if len(ended) < len(ids):
        return float("inf")
    return statistics.median(job["ended"] - queued for job in ended)


def check_healthy(lab, tally, healthy, alone, beside):
    took = median_of(lab, healthy, beside)
    tally.check(took < SLOWER * alone, f"healthy beside {beside}", f"{took:.2f} s, {alone:.2f} s")
    step(f"beside {beside}: a healthy provider's median is {took:.2f} s, {took / alone:.2f} times")


def submitted(lab, group):
    return lab.fake.calls(group, "chat", "create")


def queue(lab, end):
    """Queue, for each kind, as many long jobs as there are slots, and short ones behind them."""
    providers = {}
    for kind, (service, order) in KINDS.items():
        group = f"{end}-{kind}"
        seconds = {"deaf": DEAF}.get(end, LONG)
        order = {name: seconds if value == LONG else value for name, value in order.items()}
        lab.fake.order(group=group, match="long", cancel_status=500 * (end == "deaf"), **order)
        lab.fake.order(group=group, match="short", delay=0.3)
        providers[group] = lab.add_provider(
            group, service, max_concurrent_jobs=LIMIT,
            job_timeout=TIMEOUT if end == "timeout" else 600,
        )  # fmt: skip
        lab.add_jobs(providers[group], [f"long {n}" for n in range(LIMIT)], max_retries=0)
    wait_for(lambda: all(len(submitted(lab, group)) == LIMIT for group in providers), 30)
    for provider in providers.values():
        lab.add_jobs(provider, [f"short {n}" for n in range(2 * LIMIT)], max_retries=3)
    return providers


def check_ends(lab, tally, healthy, alone):
    providers = {end: queue(lab, end) for end in ENDS}
    begin = time.time()
    for end in ("cancel", "deaf"):
        for provider in providers[end].values():
            lab.cancel([job["id"] for job in lab.jobs(provider) if job["key"].startswith("long")])
    check_healthy(lab, tally, healthy, alone, "given up")
    for end, seconds in ENDS.items():
        for group, provider in providers[end].items():
            check_group(lab, tally, group, provider, begin, seconds)
    for end in ENDS:
        lab.wait_ended(30, *providers[end].values())
        report(lab, tally, f"given up by {end}", providers[end], since=begin,
               ends={"completed", "cancelled", "failed"}, explained={"timeout"})  # fmt: skip


def check_terminate(lab, tally, servers, healthy, alone):
    providers = queue(lab, "terminate")
    begin = time.time()
    servers[0].process.send(signal.SIGTERM)
    check_healthy(lab, tally, healthy, alone, "terminated")
    gone = wait_for(lambda: not servers[0].process.is_alive(), TERMINATE)
    tally.check(gone, "the server ends", log_tails([servers[0]]))
    # What it gave back is long, and is run again: two thirds of the slots at the most.
    for group, provider in providers.items():
        long = [job["id"] for job in lab.jobs(provider) if job["key"].startswith("long")]
        wait_for(lambda: time.time() > begin + 26, 30)
        lab.cancel(long)
        check_group(lab, tally, group, provider, begin, TERMINATE + 20)
    lab.wait_ended(30, *providers.values())
    report(lab, tally, "given back by a server that ends", providers, since=begin,
           ends={"completed", "cancelled"}, explained={None})  # fmt: skip


def check_group(lab, tally, group, provider, begin, seconds):
    """Check that the limit held, that the short jobs came next, and when."""

    def next_ones():
        return [
            call
            for call in submitted(lab, group)
            if call["key"].startswith("short") and call["outcome"] == "ok"
        ]

    left = max(1.0, begin + seconds - time.time())
    came = wait_for(lambda: len(next_ones()) >= 2 * LIMIT, left, 0.25)
    jobs = lab.jobs(provider)
    tally.check(came, f"{group}: the next ones run within {seconds} s",
                f"{describe(jobs, 9)}\n{log_tails(lab.servers)}")  # fmt: skip
    most = lab.fake.most(group)
    tally.check(0 < most <= LIMIT, f"{group}: at most {LIMIT} calls at once", f"it was {most}")
    first = min((call["at"] for call in next_ones()), default=float("inf")) - begin
    step(f"{group}: at most {most} at once; the next began after {first:.1f} s")


def check_silent(lab, tally, healthy, alone):
    silent = []
    for number in range(SILENT):
        group = f"silent-{number}"
        lab.fake.order(group=group, fault="hang")
        silent.append(lab.add_provider(group, "faultchat", max_concurrent_jobs=5))
        lab.add_jobs(silent[-1], [f"silent {n}" for n in range(5)])

    def hanging():
        return sum(len(submitted(lab, f"silent-{number}")) for number in range(SILENT))

    wait_for(lambda: hanging() >= 4 * SILENT, 20)
    step(f"{hanging()} calls of {SILENT} providers hang")
    check_healthy(lab, tally, healthy, alone, "silent")
    lab.fake.order(group="untold", job_seconds=600, check_seconds=600)
    lab.fake.order(group="told", job_seconds=3)
    untold = lab.add_provider("untold", "fault", max_concurrent_jobs=UNTOLD)
    for provider in silent:
        lab.cancel([job["id"] for job in lab.jobs(provider)])
    lab.add_jobs(untold, [f"untold {n}" for n in range(UNTOLD)])
    asked = wait_for(lambda: len(lab.fake.calls("untold", "check")) >= 8, 40)
    tally.check(asked, "the provider that says nothing is asked")
    told = lab.add_provider("told", "fault", max_concurrent_jobs=LIMIT)
    begin = time.time()
    lab.add_jobs(told, [f"told {n}" for n in range(LIMIT)])
    tally.check(lab.wait_ended(20, told), "other jobs are asked about meanwhile",
                describe(lab.jobs(told)))  # fmt: skip
    step(f"beside questions that hang, jobs of 3 s took {time.time() - begin:.1f} s")
    time.sleep(max(0, begin + 35 - time.time()))
    now, open_for = time.time(), {}
    for call in lab.fake.calls("untold", "check"):
        if call["at"] > now - 29:  # a question is given up after 30 s
            open_for[call["key"]] = open_for.get(call["key"], 0) + 1
    twice = {key: times for key, times in open_for.items() if times > 1}
    tally.check(not twice, "one question at a time about a job", str(twice))


if __name__ == "__main__":
    run_main(main)
