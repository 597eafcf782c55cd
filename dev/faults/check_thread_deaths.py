"""Providers raise what ends a thread, more often than there are threads: no job is stuck."""

import time
from collections import Counter

from evidence import check_completed, describe, log_tails
from fault_lab import FaultLab
from lib.lab import environment
from lib.say import run_main
from lib.tally import Tally
from weather_table import report

#: More than a runner has threads.
DEATHS = 100
ENDS = ("CancelledError", "SystemExit", "KeyboardInterrupt")


def main():
    tally = Tally()
    with FaultLab("thread-deaths") as lab:
        lab.start_runners(lab.start_servers(threaded=1))
        deadly = lab.add_provider("deadly", "faultbook", max_concurrent_jobs=64)
        healthy = lab.add_provider("healthy", "faultchat")
        since = time.time()
        queue_deaths(lab, deadly)
        ended = lab.wait_ended(60, deadly)
        tally.check(ended, f"{DEATHS} deaths: no job is stuck", log_tails(lab.servers))
        jobs = lab.jobs(deadly)
        tally.check(
            Counter(job["state"] for job in jobs) == {"failed": DEATHS}
            and all(len(job["attempts"]) == 1 for job in jobs),
            "each ends at once, as failed",
            describe(jobs),
        )
        lab.add_jobs(healthy, (f"after {one}" for one in range(70)))
        tally.check(
            lab.wait_ended(60, healthy), "the runner goes on with others", log_tails(lab.servers)
        )
        check_completed(lab, tally, lab.jobs(healthy))
        report(lab, tally, f"{DEATHS} ends of threads raised", {"healthy": healthy}, since=since)
    return tally.close()


def queue_deaths(lab, provider_id):
    with environment(lab, lab.database, 2) as env:
        model = env["llm.provider"].browse(provider_id).model_ids
        base = {"provider_id": provider_id, "model_id": model.id}
        threads = env["llm.thread"].create([{"name": "death", **base}] * DEATHS)
        jobs = env["llm.generation.job"].create([
            {
                "thread_id": thread.id,
                "generation_inputs": {"key": str(one), "seconds": 0, "raises": ENDS[one % 3]},
                **base,
            }
            for one, thread in enumerate(threads)
        ])
        jobs.action_queue()


if __name__ == "__main__":
    run_main(main)
