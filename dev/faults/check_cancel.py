"""Cancelling a running job reaches its call within two seconds, and nothing is posted after."""

import time

from evidence import describe, log_tails
from fault_lab import FaultLab
from lib.processes import wait_for
from lib.say import run_main, step
from lib.tally import Tally
from weather_table import report

LIMIT = 2.0
#: group: (service, order). All of them take long enough to be cancelled.
CALLS = {
    "silent-stream": ("faultchat", {"delay": 60}),
    "flowing-stream": ("faultchat", {"delay": 60, "pieces": 200}),
    "openai-stream": ("openai", {"delay": 60, "pieces": 200}),
    "native-job": ("fault", {"job_seconds": 60}),
    "late-headers": ("openai", {"delay": 60, "late_headers": True}),
}
#: What is submitted has a few seconds to say its id, without which nobody could end it.
LATE = {"late-answer": ("fault", {"delay": 12})}
#: What is put below what there is of an answer; the call itself does it, as it ends.
CANCELLED = "<p><em>Cancelled.</em></p>"
#: Holds something to a bar in seconds.
QUIET = True


def main():
    tally = Tally()
    with FaultLab("cancel") as lab:
        providers = {}
        for group, (service, order) in (CALLS | LATE).items():
            lab.fake.order(group=group, **order)
            providers[group] = lab.add_provider(group, service)
        for mode in ("threaded", "prefork"):
            [server] = lab.start_servers(**{mode: 1})
            check_mode(lab, tally, mode, server, providers)
            server.stop()
    return tally.close()


def check_mode(lab, tally, mode, server, providers):
    fake = lab.fake
    fake.forget()
    job_ids = {
        group: lab.add_jobs(provider, [f"{mode} {group}"])[0]
        for group, provider in providers.items()
    }
    started = wait_for(lambda: all(is_running(lab, group) for group in providers), 30)
    tally.check(started, f"{mode}: the calls are in flight", log_tails([server]))
    cancelled_at = {group: lab.cancel([job_id]) for group, job_id in job_ids.items()}
    answers = answers_now(lab)
    time.sleep(LIMIT)
    for group in CALLS:
        kind = "cancel" if group == "native-job" else "chat"
        ends = [call["until"] for call in fake.calls(group, kind) if call["outcome"] != "open"]
        took = ends[0] - cancelled_at[group] if ends else 99
        tally.check(
            took < LIMIT,
            f"{mode}, {group}: the call ends within {LIMIT} s",
            f"{took:.2f} s: {fake.calls(group)}\n{log_tails([server])}",
        )
        step(f"{mode}, {group}: the call ended {took:.2f} s after the cancelling began")
    since = min(cancelled_at.values())
    report(lab, tally, f"cancelled in the call, {mode}", providers, since=since,
           ends={"cancelled"}, explained=())  # fmt: skip
    answered = wait_for(lambda: all(is_answered(fake, group) for group in LATE), 20)
    tally.check(answered, f"{mode}: the late answers did come")
    time.sleep(1)
    after = answers_now(lab)
    posted = f"{answers}\n{after}"
    tally.check(after == answers, f"{mode}: nothing was posted after the cancelling", posted)
    jobs = [job for provider in providers.values() for job in lab.jobs(provider)]
    bad = [job for job in jobs if job["state"] != "cancelled" or len(job["attempts"]) != 1]
    tally.check(not bad, f"{mode}: the jobs are cancelled for good", describe(bad))


def is_running(lab, group):
    """Tell whether the provider works on the group's call, and what it says is in the thread."""
    calls = lab.fake.calls(group, "chat", "create")
    if group == "native-job":
        return calls and calls[0]["outcome"] == "ok"
    if group in {"flowing-stream", "openai-stream"}:
        running = (
            f"SELECT count(output_message_id) FROM llm_generation_job j"
            f" JOIN llm_provider p ON p.id = j.provider_id"
            f" WHERE p.name = '{group}' AND j.state = 'running'"
        )
        return lab.sql(running) == "1"
    return bool(calls)


def is_answered(fake, group):
    return any(call["outcome"] != "open" for call in fake.calls(group))


def answers_now(lab):
    """Return the answers in all threads, without the note that an answer was cancelled."""
    return lab.sql(
        f"SELECT id, replace(body, '{CANCELLED}', '') FROM mail_message"
        " WHERE llm_role IS NOT NULL ORDER BY id"
    )


if __name__ == "__main__":
    run_main(main)
