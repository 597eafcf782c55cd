"""The service `openai` by whichever addon brings it: its errors, its order, and its pace.

On the stand-ins that is our own code; with FAMILY the vendor's library within the family's, whose
threads turn every error into a message.
"""

import time
from collections import Counter

from evidence import describe
from fake_book import marked
from fault_lab import ADMIN, FaultLab
from lib import processes
from lib.commands import wait_for
from lib.lab import environment, insist
from lib.say import run_main, step
from lib.tally import Tally
from weather_table import report

#: What is measured is held to a bar.
ALONE = True
RETRY_AFTER = 4
CHUNKS, TRIES, BAR = 800, 3, 1.3
#: Seconds that a job costs whatever its answer: short answers are judged without them.
ONCE = 0.3


def main():
    tally = Tally()
    with FaultLab("family") as lab:
        lab.start_servers(threaded=1)
        check_errors(lab, tally)
        check_rate_limit(lab, tally)
        check_two_questions(lab, tally)
        check_pace(lab, tally)
    return tally.close()


def check_errors(lab, tally):
    """Each error ends its job by its meaning; nothing that failed is called completed."""
    expected = {
        "e500": ("failed", "transient", {"fault": "status", "status": 500}),
        "e400": ("failed", "bad_request", {"fault": "status", "status": 400}),
        "e401": ("queued", "authentication", {"fault": "status", "status": 401}),
        "reset": ("failed", "unknown_outcome", {"fault": "reset"}),
        "silent": ("failed", "timeout", {"fault": "hang"}),
        "refused": ("failed", "transient", None),
    }
    jobs = {}
    for group, (_state, _type, order) in expected.items():
        provider = lab.add_provider(group, "openai", job_timeout=6)
        if order:
            lab.fake.order(group=group, **order)
        else:
            address = f"http://127.0.0.1:{processes.free_port()}/v1"  # where nobody listens
            with environment(lab, lab.database) as env:
                env["llm.provider"].browse(provider).api_base = address
        jobs[group] = provider
        lab.add_jobs(provider, [group], max_retries=0)

    def ends(group):
        state, error_type, _order = expected[group]
        (job,) = lab.jobs(jobs[group])
        return (job["state"], job["error_type"]) == (state, error_type)

    for group, (state, error_type, order) in expected.items():
        wait_for(lambda group=group: ends(group), 40, 0.2)
        (job,) = lab.jobs(jobs[group])
        tally.check(ends(group), f"{group}: {state}, {error_type}", describe([job]))
        calls = Counter(call["outcome"] for call in lab.fake.calls(group, "chat"))
        once = sum(calls.values()) == (1 if order else 0)
        tally.check(once, f"{group}: the provider is called once", f"{dict(calls)}")
    with environment(lab, lab.database) as env:
        queue = env["llm.generation.queue"]._get_or_create_queue(jobs["e401"])
        tally.check(
            queue.queue_health == "critical", "a rejected key is critical", queue.queue_health
        )


def check_rate_limit(lab, tally):
    """A 429 is told to the queue at once: no library sleeps in the slot and asks again."""
    provider = lab.add_provider("limited", "openai")
    order = {"fault": "status", "status": 429, "retry_after": RETRY_AFTER}
    lab.fake.order(group="limited", times=1, **order)
    lab.add_jobs(provider, ["limited"], max_retries=0)
    paused = f"SELECT 1 FROM llm_generation_queue WHERE provider_id = {provider} AND paused_until"
    tally.check(wait_for(lambda: lab.sql(f"{paused} IS NOT NULL"), 10, 0.05), "the queue pauses")
    tally.check(lab.wait_ended(40, provider), "the pause ends")
    since = lab.fake.calls("limited", "chat")[0]["until"] + RETRY_AFTER
    fault = "429, by the service openai"
    report(lab, tally, fault, {"limited": provider}, since=since, explained=())
    (job,) = lab.jobs(provider)
    first, *later = lab.fake.calls("limited", "chat")
    tally.check((job["state"], job["retry_count"]) == ("completed", 0), "no retry", describe([job]))
    waited = [call["at"] - first["until"] for call in later]
    kept = len(waited) == 1 and waited[0] >= RETRY_AFTER
    tally.check(kept, f"one more call, after {RETRY_AFTER} s", f"{waited}")


def check_two_questions(lab, tally):
    """Two questions that wait in one thread get an answer each, in their order."""
    provider = lab.add_provider("pair", "openai", enabled=False)
    thread, _model = lab.add_thread(provider, "pair")
    keys = ["question 1", "question 2"]

    def ask(env):
        talk = env["llm.thread"].browse(thread)
        return [talk.enqueue_generation(marked(key)).id for key in keys]

    asked = insist(lab, lab.database, ask, ADMIN)
    lab.set_queue(provider, enabled=True)
    tally.check(lab.wait_ended(40, provider), "both are answered")
    called = [call["key"] for call in lab.fake.calls("pair", "chat")]
    tally.check(called == keys, "each call ends with its own question", f"{called}")
    answers = lab.rows(
        f"""
        SELECT j.id, m.parent_id = j.input_message_id AS is_own, m.body
        FROM llm_generation_job j JOIN mail_message m ON m.id = j.output_message_id
        WHERE j.thread_id = {thread} ORDER BY m.id
        """
    )
    right = [answer["id"] for answer in answers if answer["is_own"]] == asked
    told = all(key in answer["body"] for key, answer in zip(keys, answers, strict=False))
    tally.check(right and told, "the answers are theirs, in their order", f"{answers}")


def check_pace(lab, tally):
    """A long answer takes little longer through the queue than directly."""
    provider = lab.add_provider("long", "openai", max_concurrent_jobs=1)
    lab.fake.order(group="long", pieces=CHUNKS)
    ratios = []
    for number in range(TRIES):
        direct = direct_seconds(lab, provider, f"direct {number}")
        lab.add_jobs(provider, [f"queued {number}"])
        if not tally.check(lab.wait_ended(120, provider), f"answer {number} of {CHUNKS} chunks"):
            return
        queued = lab.jobs(provider)[-1]["duration"]
        ratios.append(max(0, queued - ONCE) / direct)
        step(f"{CHUNKS} chunks: {direct:.2f} s directly, {queued:.2f} s through the queue")
    best = min(ratios)
    tally.check(best <= BAR, f"{CHUNKS} chunks: queued at most {BAR} times direct", f"{best:.2f}")
    step(f"the best of {TRIES} is {best:.2f}")


def direct_seconds(lab, provider, key):
    """Return how long a direct answer takes that is committed as a controller does."""
    thread, _model = lab.add_thread(provider, key)
    with environment(lab, lab.database, ADMIN) as env:
        begin = time.monotonic()
        for _event in env["llm.thread"].browse(thread).generate(marked(key)):
            pass
        env.cr.commit()
        return time.monotonic() - begin


if __name__ == "__main__":
    run_main(main)
