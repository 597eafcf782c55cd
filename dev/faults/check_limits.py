"""Four servers, one limit a provider: never exceeded, no job lost, no job submitted twice."""

import time

from evidence import check_completed, check_logs, check_submissions
from fault_lab import FaultLab
from lib.say import run_main, step
from lib.tally import Tally
from weather_table import report

#: group: (service, jobs, limit)
LOADS = {"jobs": ("fault", 2000, 5), "chats": ("faultchat", 300, 3)}


def main():
    tally = Tally()
    with FaultLab("limits") as lab:
        lab.fake.order(delay=[0.02, 0.05])
        providers = {
            group: lab.add_provider(group, service, max_concurrent_jobs=limit)
            for group, (service, _jobs, limit) in LOADS.items()
        }
        servers = lab.start_servers(threaded=2, prefork=2)
        lab.start_runners(servers)
        for group, (_service, count, _limit) in LOADS.items():
            lab.add_jobs(providers[group], (f"job {number}" for number in range(count)))
        step("the jobs are queued")
        since = time.time()
        tally.check(lab.wait_ended(300, *providers.values()), "the jobs end in time")
        fault = "four servers, one limit"
        report(lab, tally, fault, providers, since=since, explained=())
        for group in LOADS:
            check_group(lab, tally, group, providers[group])
        check_logs(tally, servers)
        check_logs(tally, servers, words=(" ERROR ", " CRITICAL ", "Traceback"))
    return tally.close()


def check_group(lab, tally, group, provider):
    limit = LOADS[group][2]
    jobs = lab.jobs(provider)
    check_completed(lab, tally, jobs, f"{group}: all are completed")
    repeated = check_submissions(lab.fake, tally, jobs, group)
    tally.check(not repeated, f"{group}: every job was submitted once", str(repeated))
    most = lab.fake.most(group)
    tally.check(0 < most <= limit, f"{group}: at most {limit} calls at once", f"it was {most}")
    runners = {one["runner"] for job in jobs for one in job["attempts"]}
    tally.check(len(runners) >= 4, f"{group}: all servers took part", str(runners))
    step(f"{group}: {most} calls at once at most, by {len(runners)} processes")


if __name__ == "__main__":
    run_main(main)
