"""A provider that asks for a pause, answers too late, or is down for half a minute."""

import time
from collections import Counter

from evidence import check_completed, check_submissions, describe, log_tails
from fault_lab import FaultLab
from lib.lab import insist
from lib.processes import wait_for
from lib.say import run_main, step
from lib.tally import Tally
from weather_table import report

RETRY_AFTER, DOWN = 8, 30
#: Ends of an attempt that a provider which is away brings about.
AWAY = {"transient", "unknown_outcome"}


def main():
    tally = Tally()
    with FaultLab("weather") as lab:
        lab.start_servers(threaded=1, prefork=1)
        check_late = start_late(lab)
        check_rate_limit(lab, tally)
        check_late(tally)
        check_down(lab, tally)
    return tally.close()


def check_rate_limit(lab, tally):
    """A 429 stops the whole queue for as long as it says, and costs the job no retry."""
    fake = lab.fake
    provider = lab.add_provider("limited", "faultchat", max_concurrent_jobs=3)
    fake.order(group="limited", fault="status", status=429, retry_after=RETRY_AFTER, times=1)
    lab.add_jobs(provider, ["first"], max_retries=0)
    wait_for(lambda: "429" in outcomes(fake, "limited"), 30, 0.02)
    # What is claimed before the answer is stored is on its way; check_rate_limit judges that.
    paused = f"SELECT 1 FROM llm_generation_queue WHERE provider_id = {provider} AND paused_until"
    tally.check(wait_for(lambda: lab.sql(f"{paused} IS NOT NULL"), 5, 0.02), "the queue pauses")
    lab.add_jobs(provider, (f"job {number}" for number in range(12)), max_retries=0)
    tally.check(lab.wait_ended(60, provider), "the pause ends", log_tails(lab.servers))
    refusal, *later = fake.calls("limited", "chat")
    early = [call for call in later if call["at"] < refusal["until"] + RETRY_AFTER]
    tally.check(not early, f"no call within {RETRY_AFTER} s after the 429", f"{refusal} {early}")
    late = later[0]["at"] - refusal["until"] - RETRY_AFTER if later else 99
    tally.check(late < 5, "the next call follows the pause at once", f"it came {late:.1f} s later")
    end = refusal["until"] + RETRY_AFTER
    report(lab, tally, f"429 for {RETRY_AFTER} s", {"limited": provider}, since=end, explained=())
    jobs = lab.jobs(provider)
    check_completed(lab, tally, jobs, "limited: all are completed")
    tally.check(not any(job["retry_count"] for job in jobs), "it costs no retry", describe(jobs))
    step(f"the first call came {late:.2f} s after the end of the pause")


def outcomes(fake, group):
    return [call["outcome"] for call in fake.calls(group)]


def start_late(lab):
    """Start jobs whose answers come after the queue's timeout; return what checks them."""
    fake, providers = lab.fake, {}
    values = {"job_timeout": 3, "max_concurrent_jobs": 4}
    for group, service in (
        ("late-chat", "faultchat"),
        ("late-sync", "fault"),
        ("late-job", "fault"),
    ):
        providers[group] = lab.add_provider(group, service, **values)
    fake.order(group="late-chat", match="once", delay=40, times=1)
    fake.order(group="late-chat", match="never", delay=40)
    fake.order(group="late-sync", delay=17)
    fake.order(group="late-job", job_seconds=40)
    lab.add_jobs(providers["late-chat"], ["once 1"], max_retries=1)
    lab.add_jobs(providers["late-chat"], ["never 1", "never 2"], max_retries=0)
    lab.add_jobs(providers["late-sync"], ["sync 1", "sync 2"], max_retries=0)
    lab.add_jobs(providers["late-job"], ["job 1", "job 2"], max_retries=0)
    begin = time.time()

    def check(tally):
        ended = lab.wait_ended(40, *providers.values())
        tally.check(ended, "what takes too long is ended", log_tails(lab.servers))
        report(lab, tally, "answers later than the timeout", providers, since=begin,
               ends={"completed", "failed"}, explained={"timeout"})  # fmt: skip
        found = {job["key"]: job for group in providers for job in lab.jobs(providers[group])}
        check_completed(lab, tally, [found.pop("once 1")], "timed out once, then answered")
        calls = fake.calls("late-chat", "chat")
        cut = [call for call in calls if call["outcome"] == "hung up"]
        tally.check(len(cut) == 3, "late streams are closed", str(calls))
        told = {call["key"] for call in fake.calls("late-job", "cancel")}
        tally.check(told == {"job 1", "job 2"}, "late jobs are cancelled there", str(told))
        # By now the answers are there that nobody waits for any more, or their calls are closed.
        time.sleep(max(0, begin + 25 - time.time()))
        answered = [call["outcome"] for call in fake.calls("late-sync", "create")]
        is_over = len(answered) == 2 and "open" not in answered
        tally.check(is_over, "the late submissions are over", str(answered))
        late = [job for group in providers for job in lab.jobs(providers[group])]
        bad = [
            job
            for job in late
            if job["key"] in found
            and (job["state"] != "failed" or job["error_type"] != "timeout" or job["answers"])
        ]
        tally.check(not bad, "a late answer changes nothing", describe(bad))

    return check


def check_down(lab, tally):
    """Half a minute without the provider costs time and retries, but no job."""
    loads = {"chats": ("faultchat", 40), "sync": ("fault", 40), "jobs": ("fault", 20)}
    lab.fake.order(group="chats", delay=[0.2, 0.5], pieces=3)
    lab.fake.order(group="sync", delay=[0.2, 0.5])
    lab.fake.order(group="jobs", job_seconds=[2, 6])
    providers = {}
    for group, (service, count) in loads.items():
        providers[group] = lab.add_provider(group, service, max_concurrent_jobs=4)
        keys = (f"job {number}" for number in range(count))
        lab.add_jobs(providers[group], keys, max_retries=15)
    wait_for(lambda: lab.fake.calls("sync") and lab.fake.calls("chats"), 30, 0.1)
    time.sleep(1)
    lab.fake.down()
    step("the provider is down")
    time.sleep(DOWN)
    lab.fake.up()
    since = time.time()
    step("the provider is back")
    if not lab.wait_ended(20, *providers.values()):
        retry_now(lab, tally, providers)
    ended = lab.wait_ended(60, *providers.values())
    tally.check(ended, "everything ends after the provider is back", log_tails(lab.servers))
    report(lab, tally, f"the provider down for {DOWN} s", providers, since=since,
           explained={"unknown_outcome"})  # fmt: skip
    for group, provider in providers.items():
        jobs = lab.jobs(provider)
        check_completed(lab, tally, jobs, f"{group}: all are completed")
        repeated = check_submissions(lab.fake, tally, jobs, group, explained={"unknown_outcome"})
        attempts = [one for job in jobs for one in job["attempts"]]
        ends = Counter(one["error_type"] for one in attempts if one["outcome"] != "completed")
        tally.check(set(ends) <= AWAY, f"{group}: attempts end for a known reason", str(ends))
        most = lab.fake.most(group)
        tally.check(0 < most <= 4, f"{group}: at most 4 at once", f"it was {most}")
        step(f"{group}: {len(jobs)} jobs, {len(attempts)} attempts, unfinished ones: {dict(ends)};"
             f" {len(repeated)} submitted again: {repeated}")  # fmt: skip


def retry_now(lab, tally, providers):
    """Do as a manager who does not want to wait for the last retries, which may be minutes off."""
    for group, provider in providers.items():
        lost = lab.rows(
            f"SELECT id FROM llm_generation_job WHERE provider_id = {provider}"
            " AND state = 'failed' AND retry_at IS NULL"
        )
        tally.check(not lost, f"{group}: what failed will be tried again by itself", str(lost))

        def retry(env, provider=provider):
            queue = env["llm.generation.queue"]._get_or_create_queue(provider)
            return queue.action_retry_failed_jobs()

        step(f"{group}: {insist(lab, lab.database, retry)} are retried now")


if __name__ == "__main__":
    run_main(main)
