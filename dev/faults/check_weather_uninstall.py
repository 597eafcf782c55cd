"""The module is uninstalled in the server that makes its calls, and installed again."""

import re
import signal
import time

from evidence import log_tails
from fault_lab import FaultLab
from lib import fault_table
from lib.processes import wait_for
from lib.say import run_main, step
from lib.tally import Tally

LOADS = {"chats": "faultchat", "sync": "fault", "jobs": "fault"}
COUNT, LIMIT = 8, 4
#: The runner's own, and those of 12 calls.
THREADS = 3 + LIMIT * 3


def main():
    tally = Tally()
    with FaultLab("uninstall") as lab:
        lab.fake.order(delay=6)
        lab.fake.order(group="jobs", job_seconds=6)
        providers = {
            group: lab.add_provider(group, service, max_concurrent_jobs=LIMIT)
            for group, service in LOADS.items()
        }
        [server] = lab.start_servers(threaded=1)
        lab.start_runners([server])
        check_uninstall(lab, tally, providers, server)
    return tally.close()


def start_jobs(lab, providers, what):
    for group, provider in providers.items():
        lab.add_jobs(provider, (f"{what} {group} {number}" for number in range(COUNT)))
    wait_for(lambda: len(lab.fake.calls(None, "chat", "create")) >= LIMIT * 3, 20, 0.1)


def check_uninstall(lab, tally, providers, server):
    """The module goes while calls are in flight, in the server that makes them; then it is back."""
    start_jobs(lab, providers, "uninstalled")
    in_flight = len([call for call in lab.fake.calls() if call["outcome"] == "open"])
    since = time.time()
    [module_id] = server.call("ir.module.module", "search", [("name", "=", "llm_generate_job")])
    server.call("ir.module.module", "button_immediate_uninstall", [module_id])
    step(f"it is uninstalled, with {in_flight} calls in flight")
    ended = wait_for(
        lambda: not [call for call in lab.fake.calls() if call["outcome"] == "open"], 30, 0.2
    )
    tally.check(ended, "uninstalled: the calls end", str(lab.fake.calls()[-5:]))
    gone = wait_for(lambda: not runner_threads(server), 90, 0.5)
    tally.check(gone, "uninstalled: no thread is left", str(runner_threads(server)))
    seconds = time.time() - since
    begun = len(lab.fake.calls(None, "chat", "create"))
    time.sleep(5)
    errors = [line for line in server.log_text().splitlines() if " ERROR " in line]
    # Each thread of the runner may ask once for columns that are gone; that its job is, too, is
    # no error.
    tally.check(len(errors) <= THREADS, "uninstalled: no storm of errors", "\n".join(errors[:20]))
    step(f"uninstalled: {len(errors)} errors in the log")
    now = len(lab.fake.calls(None, "chat", "create"))
    tally.check(now == begun, "uninstalled: nothing more starts", f"{begun}, {now}")
    threads = server.call("llm.thread", "search_count", [])
    tally.check(threads > 0, "uninstalled: the server and the threads are there", str(threads))
    fault_table.hand_over(
        fault_table.Row(
            script="check_weather_uninstall", fault="module uninstalled", jobs=COUNT * 3, lost=0,
            duplicated=0, unexplained=0, stuck=0, recovered=seconds, why="",
        )
    )  # fmt: skip
    lab.instance.install(lab.database, ["llm_fault_provider"])
    server.stop()
    tally.check(not server.process.is_alive(), "uninstalled: the server ends when told")
    lab.fake.forget()
    [server] = lab.start_servers(threaded=1)
    lab.add_jobs(providers["jobs"], ["installed again"])
    tally.check(
        lab.wait_ended(60, providers["jobs"]), "installed again: jobs run", log_tails([server])
    )


def runner_threads(server):
    """Return the names of our threads in a server: on SIGQUIT, Odoo logs what its threads do."""
    before = len(server.log_text())
    server.process.send(signal.SIGQUIT)
    wait_for(lambda: "MainThread" in server.log_text()[before:], 5, 0.1)
    time.sleep(0.3)
    names = re.findall(r"# Thread: <\w+\(([^,)]*)", server.log_text()[before:])
    return sorted(name for name in names if name.startswith("llm_generate_job"))


if __name__ == "__main__":
    run_main(main)
