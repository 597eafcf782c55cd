"""Services by whichever addons bring them: their errors, their order, and their pace.

On the stand-ins that is `openai` by our own code; with FAMILY it is each vendor's library within
the family's addons, whose threads turn every error into a message.
"""

import inspect
import time
from statistics import median

from evidence import describe
from fake_book import marked
from fault_lab import ADMIN, FaultLab
from lib.lab import environment, insist
from lib.processes import wait_for
from lib.say import run_main, step
from lib.tally import Tally
from weather_table import report

#: What is measured is held to a bar.
QUIET = True
SERVICES = ("openai", "mistral", "anthropic", "ollama")
RETRY_AFTER = 4
#: Tries at once of what certainly nobody has answered, however few retries a job has.
QUICK = 3
CHUNKS, TRIES, BAR = 800, 5, 1.3
#: Seconds that a job costs whatever its answer: short answers are judged without them.
ONCE = 0.3


def main():
    tally = Tally()
    with FaultLab("family") as lab:
        # That library is told an address by the environment only.
        env = {"ANTHROPIC_BASE_URL": lab.fake.url("").rstrip("/")}
        lab.start_servers(threaded=1, env=env)
        with environment(lab, lab.database) as env:
            known = dict(env["llm.provider"]._get_available_services())
            services = [one for one in SERVICES if one in known and fits(env["llm.provider"], one)]
        step(f"services: {', '.join(services)}")
        check_errors(lab, tally, services)
        for service in services:
            check_rate_limit(lab, tally, service)
        check_two_questions(lab, tally)
        check_pace(lab, tally)
    return tally.close()


def fits(provider, service):
    """Return whether an addon takes what the family's `llm` hands it: that of Ollama did not."""
    method = getattr(provider, f"{service}_format_messages", None)
    return not method or "model" in inspect.signature(method).parameters


def check_errors(lab, tally, services):
    """Each error ends its job by its meaning; nothing that failed is called completed."""
    expected = {
        "e500": ("failed", "transient", 1, {"fault": "status", "status": 500}),
        "e400": ("failed", "bad_request", 1, {"fault": "status", "status": 400}),
        "e401": ("queued", "authentication", 1, {"fault": "status", "status": 401}),
        "reset": ("failed", "unknown_outcome", 1 + QUICK, {"fault": "reset"}),
        "silent": ("failed", "timeout", 1, {"fault": "hang"}),
    }
    providers = {}

    def ask(fault, **queue_values):
        for service in services:
            group = f"{service}-{fault}"
            providers[group] = lab.add_provider(group, service, **queue_values)
            lab.add_jobs(providers[group], [group], max_retries=0)

    def see(fault, state, error_type, calls):
        for service in services:
            group = f"{service}-{fault}"

            def ended(group=group):
                (job,) = lab.jobs(providers[group])
                return (job["state"], job["error_type"]) == (state, error_type)

            wait_for(ended, 40, 0.2)
            told = describe(lab.jobs(providers[group]))
            tally.check(ended(), f"{group}: {state}, {error_type}", told)
            made = [call["outcome"] for call in lab.fake.calls(group, "chat")]
            tally.check(len(made) == calls, f"{group}: {calls} calls are made", f"{made}")
            step(f"{group}: {state}, {error_type}, calls {made}")

    for fault, (_state, _type, _calls, order) in expected.items():
        for service in services:
            lab.fake.order(group=f"{service}-{fault}", **order)
        ask(fault, **({"job_timeout": 6} if fault == "silent" else {}))
    for fault, (state, error_type, calls, _order) in expected.items():
        see(fault, state, error_type, calls)
    lab.fake.down()
    ask("refused")
    see("refused", "failed", "transient", calls=0)
    lab.fake.up()
    with environment(lab, lab.database) as env:
        for service in services:
            queue = env["llm.generation.queue"]._get_or_create_queue(providers[f"{service}-e401"])
            is_critical = queue.queue_health == "critical"
            tally.check(is_critical, f"{service}: a rejected key is critical", queue.queue_health)


def check_rate_limit(lab, tally, service):
    """A 429 is told to the queue at once: no library sleeps in the slot and asks again."""
    group = f"{service}-limited"
    provider = lab.add_provider(group, service)
    order = {"fault": "status", "status": 429, "retry_after": RETRY_AFTER}
    lab.fake.order(group=group, times=1, **order)
    lab.add_jobs(provider, [group], max_retries=0)
    paused = f"SELECT 1 FROM llm_generation_queue WHERE provider_id = {provider} AND paused_until"
    is_paused = wait_for(lambda: lab.sql(f"{paused} IS NOT NULL"), 10, 0.05)
    tally.check(is_paused, f"{service}: the queue pauses")
    tally.check(lab.wait_ended(40, provider), f"{service}: the pause ends")
    since = lab.fake.calls(group, "chat")[0]["until"] + RETRY_AFTER
    report(lab, tally, f"429, by {service}", {group: provider}, since=since, explained=())
    (job,) = lab.jobs(provider)
    first, *later = lab.fake.calls(group, "chat")
    tally.check(
        (job["state"], job["retry_count"]) == ("completed", 0),
        f"{service}: no retry",
        describe([job]),
    )
    waited = [call["at"] - first["until"] for call in later]
    kept = len(waited) == 1 and waited[0] >= RETRY_AFTER
    tally.check(kept, f"{service}: one more call, after {RETRY_AFTER} s", f"{waited}")


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
    middle = median(ratios)
    told = f"the median of {TRIES} is {middle:.2f}, the worst {max(ratios):.2f}"
    tally.check(middle <= BAR, f"{CHUNKS} chunks: queued at most {BAR} times direct", told)
    step(told)


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
