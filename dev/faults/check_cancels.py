"""Servers are killed and stopped as they tell a provider of cancels: it hears of each."""

import time
from collections import Counter

from evidence import describe, log_tails
from fault_lab import FaultLab
from lib.processes import wait_for
from lib.say import run_main, step
from lib.tally import Tally
from weather_table import report

CANCELS = 30
#: Seconds that the provider takes to cancel a job: a poller of a runner tells of one at a time.
DELAY = 2
#: How many of them it refuses at first, as a service that has trouble does.
REFUSED = 5


def main():
    tally = Tally()
    with FaultLab("cancels") as lab:
        lab.fake.order(group="jobs", job_seconds=600, cancel_delay=DELAY)
        lab.fake.order(
            group="jobs", job_seconds=600, cancel_status=500, match="job 1", times=REFUSED
        )
        provider = lab.add_provider("jobs", "fault", max_concurrent_jobs=CANCELS)
        killed, stopped = lab.start_servers(threaded=2)
        lab.start_runners(lab.servers)
        ids = lab.add_jobs(provider, (f"job {number:02}" for number in range(CANCELS)))
        running = wait_for(lambda: all(job["external_job_id"] for job in lab.jobs(provider)), 30)
        tally.check(running, "all run at the provider", log_tails(lab.servers))
        # What the submissions took of it.
        lab.fake.order(
            group="jobs", job_seconds=600, cancel_status=500, match="job 1", times=REFUSED
        )
        lab.cancel(ids)
        time.sleep(1)
        killed.kill()
        time.sleep(DELAY)
        stopped.stop()
        told = len(lab.fake.calls("jobs", "cancel"))
        tally.check(told < CANCELS, "they end before all is told", f"{told} were told")
        since = time.time()
        lab.start_runners(lab.start_servers(threaded=1))
        wait_for(lambda: confirmed(lab) == CANCELS, 150, 0.5)
        step(f"{confirmed(lab)} confirmed after {time.time() - since:.0f} s")
        tally.check(
            confirmed(lab) == CANCELS,
            f"{CANCELS} cancels through kill -9 and SIGTERM: {CANCELS} confirmed",
            f"{confirmed(lab)}\n{describe(lab.jobs(provider))}\n{log_tails(lab.servers)}",
        )
        left = wait_for(lambda: open_cancels(lab) == "0", 10, 0.2)
        tally.check(left, "nothing more is to be told", open_cancels(lab))
        fault = "killed and stopped as a provider is told of cancels"
        report(lab, tally, fault, {"jobs": provider}, since=since, ends=("cancelled",))
    return tally.close()


def confirmed(lab):
    """Return how many jobs the provider was told of, and answered."""
    return len(Counter(call["key"] for call in lab.fake.calls("jobs", "cancel")))


def open_cancels(lab):
    return lab.sql("SELECT count(*) FROM llm_generation_job WHERE cancel_requested")


if __name__ == "__main__":
    run_main(main)
