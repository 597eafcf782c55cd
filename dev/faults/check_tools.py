"""Conversations with tools meet a 429, a reset or a killed server: no tool does its work twice.

Each calls three tools in each of three rounds, and each tool leaves a row in the database.
"""

import threading
import time
from collections import Counter

from evidence import EXPLAINED, describe, log_tails
from fault_lab import ADMIN, FaultLab
from lib.lab import environment
from lib.say import run_main, step
from lib.tally import Tally
from weather_table import report

RUNS, ROUNDS = 200, 3
#: Providers, and calls of each at once: a 429 pauses one of them.
GROUPS, AT_ONCE = [f"tools{number}" for number in range(4)], 8
#: Seconds of kills, between two of them, and until the last conversation has ended: a machine that
#: does nine other things needs minutes. Who is killed is rescued when the kills are over, so that
#: nobody is killed too often to be tried again.
KILLS, PAUSE, LIMIT = 40, (2, 5), 500
FAULTS = ({"fault": "status", "status": 429, "retry_after": 1}, {"fault": "reset"}, None)


def main():
    tally = Tally()
    with FaultLab("tools") as lab:
        providers = {group: ask(lab, group) for group in GROUPS}
        lab.start_servers(threaded=2)
        lab.start_runners(lab.servers)
        for provider in providers.values():
            lab.set_queue(provider, enabled=True)
        kill_servers(lab)
        since = time.time()
        ended = lab.wait_ended(LIMIT, *providers.values())
        tally.check(ended, "every conversation ends", log_tails(lab.servers))
        fault = "tools: 429, reset or kill -9"
        explained = {*EXPLAINED, None}
        report(lab, tally, fault, providers, since=since, expected=RUNS, explained=explained)
        check(lab, tally, [job for one in providers.values() for job in lab.jobs(one)])
    return tally.close()


def ask(lab, group):
    """Queue the conversations of a provider, with the faults that each will meet."""
    provider = lab.add_provider(group, "openai", enabled=False, max_concurrent_jobs=AT_ONCE)
    lab.fake.order(group=group, rounds=ROUNDS, delay=[0.1, 0.4])
    keys = [f"{group} {number:03}" for number in range(RUNS // len(GROUPS))]
    for number, key in enumerate(keys):
        if fault := FAULTS[number % len(FAULTS)]:
            at = lab.random.randint(1, ROUNDS + 1)
            lab.fake.order(
                group=group, match=key + (f" round {at}" if at > 1 else ""), times=1, **fault
            )
    lab.add_jobs(provider, keys, max_retries=9)
    with environment(lab, lab.database, ADMIN) as env:
        tool = env["llm.tool"].search([("name", "=", "note")]) or env["llm.tool"].create({
            "name": "note",
            "description": "Notes a key",
            "implementation": "fault_note",
        })
        threads = env["llm.generation.job"].search([("provider_id", "=", provider)]).thread_id
        threads.write({"tool_ids": [(6, 0, tool.ids)]})
    return provider


def kill_servers(lab):
    """Kill servers that work, at any moment, and start them again."""
    threads, end = [], time.monotonic() + KILLS
    while time.monotonic() < end:
        time.sleep(lab.random.uniform(*PAUSE))
        held = lab.runner_pids()
        if not (busy := [one for one in lab.servers if one.process.pid in held]):
            lab.pump()
            continue
        server = lab.random.choice(busy)
        server.kill()
        step(f"killed {server.name}")
        threads.append(threading.Thread(target=server.start, daemon=True))
        threads[-1].start()
    for thread in threads:
        thread.join()
    lab.pump()


def check(lab, tally, jobs):
    rows = lab.rows(
        "SELECT name->>'en_US' AS key, count(*) AS times FROM res_partner_category GROUP BY 1"
    )
    effects = {row["key"]: row["times"] for row in rows}
    keys = {
        f"{job['key']} {turn}.{number}": job
        for job in jobs for turn in range(1, ROUNDS + 1) for number in range(3)
    }  # fmt: skip
    twice = {key: times for key, times in effects.items() if times > 1}
    tally.check(
        not twice and effects.keys() <= keys.keys(), "no tool did its work twice", f"{twice}"
    )
    killed = [job for job in jobs if "worker_died" in causes(job)]
    missing = [key for key, job in keys.items() if key not in effects and job not in killed]
    tally.check(not missing, "what was not killed did all of its work", f"{missing}")

    told = {}
    for call in lab.fake.calls(None, "chat"):
        if "told" in call and call["outcome"] == "ok":
            told |= call["told"]
    wrong = [
        f"{key}: {told.get(key)}, {effects.get(key, 0)} times" for key in keys
        if len(told.get(key, ())) != 1 or ("noted" in told[key][0]) != (key in effects)
    ]  # fmt: skip
    tally.check(not wrong, "the model is told of each call what became of it", "\n".join(wrong[:9]))
    said = Counter("".join(texts)[:40] for texts in told.values() if "noted" not in texts[0])
    step(f"{len(killed)} of {len(jobs)} were killed; not done, and told so: {dict(said)}")
    tally.check(len(killed) >= 10, "many were killed", describe(jobs))
    check_rounds(lab, tally, jobs, killed)


def check_rounds(lab, tally, jobs, killed):
    """No conversation went back to a round that was finished."""
    asked, answered = {job["key"]: [] for job in jobs}, Counter()
    for call in lab.fake.calls(None, "chat"):
        key, _round, number = call["key"].partition(" round ")
        asked[key].append(int(number or 1))
        answered[key, number] += call["outcome"] == "ok"
    back = {key: rounds for key, rounds in asked.items() if rounds != sorted(rounds)}
    tally.check(not back, "none asks for a finished round again", f"{back}")
    alive = {job["key"] for job in jobs} - {job["key"] for job in killed}
    again = [one for one, times in answered.items() if one[0] in alive and times != 1]
    tally.check(not again, "what was answered is asked again only after a kill", f"{again}")
    met = Counter(cause for job in jobs for cause in causes(job))
    step(f"{sum(map(len, asked.values()))} calls; attempts that ended early: {dict(met)}")


def causes(job):
    return [one["error_type"] for one in job["attempts"] if one["outcome"] != "completed"]


if __name__ == "__main__":
    run_main(main)
