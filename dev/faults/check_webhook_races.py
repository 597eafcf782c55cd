"""A webhook, its double, a poll and a cancellation meet at each job: it ends once, one answer."""

import json
import random
import sys
import time
import urllib.error
import urllib.request
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from evidence import check_logs, describe
from fault_lab import ADMIN, FaultLab
from lib.lab import insist
from lib.processes import wait_for
from lib.say import run_main, step
from lib.tally import Tally
from weather_table import report

sys.path.append(str(Path(__file__).resolve().parents[2] / "tests"))

from signatures import new_secret, sign_standard

RACES, BATCH = 1000, 100
#: Seconds that a webhook's answer may take; a busy machine is allowed for.
SOON = 5.0
#: Holds something to a bar in seconds.
QUIET = True


def main():
    tally, secret = Tally(), new_secret()
    with FaultLab("webhook-races") as lab:
        lab.fake.order(job_seconds=[1.5, 5.0])
        provider = lab.add_provider(
            "races", "fault", max_concurrent_jobs=BATCH, webhook_secret=secret
        )
        servers = lab.start_servers(threaded=2)
        servers[0].call("llm.generation.job", "search_count", [])  # the first request is slow
        answers = Counter()
        for _batch in range(RACES // BATCH):
            answers += run_batch(lab, provider, servers, secret)
        since = time.time()
        tally.check(lab.wait_ended(120, provider), "the jobs end in time")
        report(lab, tally, "webhooks, polls and cancellations at once", {"races": provider},
               since=since, ends={"completed", "cancelled"}, explained=())  # fmt: skip
        check_jobs(lab, tally, provider)
        told = {status for kind, status in answers if kind == "webhook"}
        tally.check(told == {200}, "each webhook is answered, and soon", str(dict(answers)))
        tally.check(answers["forged", 401] == RACES, "each forgery is refused", str(dict(answers)))
        check_logs(tally, servers)
        step(f"answers: {dict(answers)}")
    return tally.close()


def run_batch(lab, provider, servers, secret):
    """Let everything happen at once to each job of a batch; return how often it was answered."""
    ids = lab.add_jobs(provider, (f"race {number}" for number in range(BATCH)))
    query = (
        "SELECT id, external_job_id AS external, webhook_token AS token FROM llm_generation_job"
        f" WHERE id IN ({', '.join(map(str, ids))}) AND external_job_id IS NOT NULL"
    )
    wait_for(lambda: len(lab.rows(query)) == BATCH, 60, 0.1)
    work = []
    for job in lab.rows(query):
        body = json.dumps({"id": job["external"]}).encode()
        signed = sign_standard(secret, body, f"msg_{job['id']}")
        forged = sign_standard(new_secret(), body, "msg_forged")
        server = random.choice(servers)
        work += [("webhook", server, job, signed, body)] * 2 + [
            ("forged", server, job, forged, body)
        ]
        work.append(("check_status", lab, job))
        if random.random() < 0.5:
            work.append(("action_cancel", lab, job))
    random.shuffle(work)
    with ThreadPoolExecutor(12) as threads:
        return Counter(threads.map(lambda piece: act(*piece), work))


def act(kind, server, job, headers=None, body=None):
    """Do one piece of a batch's work; return its kind and what came of it."""
    if headers is None:
        return kind, call(server, kind, job["id"])
    url = f"{server.url}/llm_generate_job/webhook/{job['id']}/{job['token']}"
    request = urllib.request.Request(
        url, body, {"Content-Type": "application/json", **headers}, method="POST"
    )
    begin = time.monotonic()
    try:
        with urllib.request.urlopen(request, timeout=30) as answer:
            status = answer.status
    except urllib.error.HTTPError as error:
        status = error.code
    return kind, status if time.monotonic() - begin < SOON else "slow"


def call(lab, method, job_id):
    """Call a method of a job from here, as a worker of Odoo does: logging in takes too long."""
    from odoo.exceptions import UserError  # noqa: PLC0415 - the lab finds Odoo first

    def ask(env):
        getattr(env["llm.generation.job"].browse(job_id), method)()

    try:
        insist(lab, lab.database, ask, ADMIN)
    except UserError:
        return "refused"  # it has ended
    return "done"


def check_jobs(lab, tally, provider):
    jobs = lab.jobs(provider)
    ends = Counter(job["state"] for job in jobs)
    tally.check(
        len(jobs) == RACES and set(ends) <= {"completed", "cancelled"},
        "each job is completed or cancelled",
        describe([job for job in jobs if job["state"] not in {"completed", "cancelled"}]),
    )
    tally.check(len(ends) == 2, "both ends were met", str(dict(ends)))
    twice = [job for job in jobs if len(job["attempts"]) != 1]
    tally.check(not twice, "each job had one attempt", describe(twice))
    odd = [job for job in jobs if job["attempts"][0]["outcome"] != job["state"]]
    tally.check(not odd, "each attempt ended as its job did", describe(odd))
    wrong = [job for job in jobs if len(job["answers"]) != (job["state"] == "completed")]
    tally.check(not wrong, "one answer where completed, none where cancelled", describe(wrong))


if __name__ == "__main__":
    run_main(main)
