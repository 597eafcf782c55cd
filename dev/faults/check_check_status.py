"""`while job.state in …: job.check_status()` ends with the job, even in one long transaction."""

import time

from evidence import check_completed, log_tails
from fault_lab import FaultLab
from lib.say import run_main, step
from lib.tally import Tally
from weather_table import report

QUIET = True
#: What runs in Odoo's shell: another process than the server, and no transaction but its own.
LOOP = """
import time
from odoo.exceptions import UserError

env = env(user=2)
result = {}
for group in GROUPS:
    model = env["llm.provider"].search([("name", "=", group)]).model_ids
    base = {"provider_id": model.provider_id.id, "model_id": model.id}
    thread = env["llm.thread"].create({"name": group, **base})
    job = env["llm.generation.job"].create({
        "thread_id": thread.id,
        "generation_inputs": {"prompt": f"{group} canary-prompt-fault"},
        "max_retries": 0,
        **base,
    })
    job.action_queue()
    try:
        refusal = str(job.check_status())
    except UserError as error:
        refusal = str(error)
    env.cr.commit()
    env.cr.execute("SELECT now()::text")  # the snapshot is as old as this
    begun, begin, asked = env.cr.fetchone(), time.monotonic(), 0
    while job.state in ["queued", "running"] and time.monotonic() < begin + 40:
        status = job.check_status()
        asked += 1
    env.cr.execute("SELECT now()::text")
    result[group] = {
        "state": job.state,
        "error_type": job.error_type,
        "asked": asked,
        "seconds": time.monotonic() - begin,
        "status": status,
        "refusal": refusal,
        "same_transaction": env.cr.fetchone() == begun,
        "answered": bool(job.output_message_id),
        "body": str(job.output_message_id.body or ""),
    }
    env.cr.commit()
"""
#: group: (service, order, last state, seconds that it takes at least)
CALLS = {
    "jobs": ("fault", {"job_seconds": 3}, "completed", 3),
    "sync": ("fault", {"delay": 2}, "completed", 2),
    "chat": ("faultchat", {"delay": 2, "pieces": 4}, "completed", 2),
    "refused": ("faultchat", {"fault": "status", "status": 400, "delay": 1}, "failed", 1),
}


def main():
    tally = Tally()
    with FaultLab("check-status") as lab:
        providers = {}
        for group, (service, order, _state, _seconds) in CALLS.items():
            lab.fake.order(group=group, **order)
            providers[group] = lab.add_provider(group, service)
        since = time.time()
        for mode in ("threaded", "prefork"):
            [server] = lab.start_servers(**{mode: 1})
            lab.start_runners([server])
            found = lab.instance.code(lab.database, f"GROUPS = {list(CALLS)}\n{LOOP}")
            for group, one in found.items():
                check_loop(tally, mode, group, one, server)
            server.stop()
        ends = {state for _service, _order, state, _seconds in CALLS.values()}
        fault = "asked within one long transaction"
        report(lab, tally, fault, providers, since=since, ends=ends, explained=())
        for group in ("jobs", "sync", "chat"):
            check_completed(lab, tally, lab.jobs(providers[group]), f"{group}: all are completed")
    return tally.close()


def check_loop(tally, mode, group, one, server):
    _service, _order, state, seconds = CALLS[group]
    title = f"{mode}, {group}"
    tally.check(one["state"] == state, f"{title}: is {state}", f"{one}\n{log_tails([server])}")
    tally.check(
        seconds <= one["seconds"] < seconds + 10,
        f"{title}: the loop ends with the job",
        str(one),
    )
    tally.check(one["same_transaction"], f"{title}: it was one transaction", str(one))
    tally.check("ommit" in one["refusal"], f"{title}: asks to commit first", str(one))
    tally.check(one["answered"] == (state == "completed"), f"{title}: knows the answer", str(one))
    tally.check(bool(one["body"]) == one["answered"], f"{title}: can read the answer", str(one))
    step(f"{title}: {one['state']} after {one['seconds']:.1f} s and {one['asked']} questions")


if __name__ == "__main__":
    run_main(main)
