"""Two providers say 429 for a while, amid 200 jobs each: what is on its way is refused once."""

import time

from evidence import check_completed, check_logs, check_submissions, log_tails
from fault_lab import FaultLab
from lib.say import run_main, step
from lib.tally import Tally
from weather_table import report

JOBS, LIMIT, RETRY_AFTER = 200, 8, 20
#: Calls that are answered before the provider has had enough.
FIRST = 60
#: Seconds in which the first refusal has to reach the queue's row, and what was claimed before may
#: arrive at the provider; a busy machine is allowed for.
ON_ITS_WAY = 2.0
#: Seconds after the pause in which the next call has to come; a busy machine is allowed for.
SOON = 8
SERVICES = {"chats": "faultchat", "jobs": "fault"}
#: Holds something to a bar in seconds.
QUIET = True


def main():
    tally = Tally()
    with FaultLab("rate-limit") as lab:
        providers = {}
        for group, service in SERVICES.items():
            providers[group] = lab.add_provider(group, service, max_concurrent_jobs=LIMIT)
            refusal = {"fault": "status", "status": 429, "retry_after": RETRY_AFTER}
            lab.fake.order(group=group, delay=[0.02, 0.1])
            lab.fake.order(group=group, lasts=RETRY_AFTER, delay=[0.02, 0.1], **refusal)
            lab.fake.order(group=group, times=FIRST, delay=[0.02, 0.1])
        servers = lab.start_servers(threaded=2)
        lab.start_runners(servers)
        since = time.time()
        for group in SERVICES:
            keys = (f"job {number}" for number in range(JOBS))
            lab.add_jobs(providers[group], keys, max_retries=0)
        ended = lab.wait_ended(RETRY_AFTER + 60, *providers.values())
        tally.check(ended, "the pause ends", log_tails(servers))
        fault = f"a rate limit for {RETRY_AFTER} s"
        report(lab, tally, fault, providers, since=since + RETRY_AFTER, explained=())
        for group, provider in providers.items():
            check_group(lab, tally, group, provider)
        check_logs(tally, servers)
    return tally.close()


def check_group(lab, tally, group, provider):
    jobs = lab.jobs(provider)
    check_completed(lab, tally, jobs, f"{group}: all {JOBS} are completed")
    spent = [job for job in jobs if job["retry_count"]]
    tally.check(len(jobs) == JOBS and not spent, f"{group}: it costs no retry", str(spent[:5]))
    repeated = check_submissions(lab.fake, tally, jobs, group, explained={"rate_limited"})
    most = max(len(calls) for calls in lab.fake.submissions(group).values())
    tally.check(most == 2, f"{group}: at most 2 calls a job", f"it was {most}")
    calls = lab.fake.calls(group, "chat", "create")
    refused = [call for call in calls if call["outcome"] == "429"]
    tally.check(
        0 < len(refused) <= LIMIT and len(repeated) == len(refused),
        f"{group}: only those are refused that were under way",
        f"{len(refused)} were refused, {len(repeated)} jobs were called again",
    )
    known = min(call["until"] for call in refused) + ON_ITS_WAY
    end = max(call["until"] for call in refused) + RETRY_AFTER
    inside = [call for call in calls if known < call["at"] < end]
    tally.check(not inside, f"{group}: no call within the {RETRY_AFTER} s", str(inside[:5]))
    later = min((call["at"] for call in calls if call["at"] >= end), default=float("inf")) - end
    tally.check(later < SOON, f"{group}: the work goes on then", f"after {later:.1f} s")
    step(
        f"{group}: {len(calls)} calls for {len(jobs)} jobs, {len(refused)} refused, {most} calls a"
        f" job at most, {len(inside)} in the pause, the next {later:.2f} s after it"
    )


if __name__ == "__main__":
    run_main(main)
