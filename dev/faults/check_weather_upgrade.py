"""Another process upgrades the module to a newer version while an older server runs jobs."""

import re
import shutil
import threading
import time

import psycopg2
from evidence import check_completed, check_submissions, log_tails
from fake_book import marked
from fault_lab import FaultLab
from lib import paths
from lib.processes import wait_for
from lib.say import run_main, step
from lib.tally import Tally
from weather_table import report

LOADS = {"chats": ("faultchat", {"delay": 3, "pieces": 6}),
         "sync": ("fault", {"delay": 2}),
         "jobs": ("fault", {"job_seconds": 4})}  # fmt: skip
COUNT, LIMIT = 20, 5
UPGRADE = (*("-d", FaultLab.database, "-u", "llm_generate_job"), "--stop-after-init", "--no-http")
#: What an upgrade costs at most: its tables are locked for a while, so attempts may be repeated.
EXPLAINED = {"worker_died", "unknown_outcome", "transient", None}
#: What a server says whose code is newer than the database.
BEHIND = "the code is newer than the database"
#: A newer version has a further column. No default: Odoo fills one by an update of all rows, which
#: fails where jobs move at the same time.
NEWER = """
from odoo import fields, models


class LlmGenerationJob(models.Model):
    _inherit = "llm.generation.job"

    newer_note = fields.Char(index=True)
"""


def main():
    tally = Tally()
    with FaultLab("module") as lab:
        providers = {}
        for group, (service, order) in LOADS.items():
            lab.fake.order(group=group, **order)
            providers[group] = lab.add_provider(group, service, max_concurrent_jobs=LIMIT)
        [server] = lab.start_servers(threaded=1)
        lab.start_runners([server])
        check_rolling(lab, tally, providers, server)
    return tally.close()


class Feeder(threading.Thread):
    """Queues jobs all the time; what an upgrade refuses its user, it tries again a second later."""

    def __init__(self, lab, providers, what):
        super().__init__(daemon=True)
        self.lab, self.providers, self.what = lab, providers, what
        self.over, self.refused, self.count = threading.Event(), [], 0

    def __enter__(self):
        self.start()
        return self

    def run(self):
        while not self.over.wait(1):
            self.count += 1
            for group, provider in self.providers.items():
                try:
                    self.lab.add_jobs(provider, [f"{self.what} meanwhile {group} {self.count}"])
                except psycopg2.Error as error:
                    self.refused.append(type(error).__name__)

    def __exit__(self, *_exc):
        self.over.set()
        self.join(60)
        step(f"{self.what}: fed {self.count} times, refused: {self.refused}")


def start_jobs(lab, providers, what):
    for group, provider in providers.items():
        lab.add_jobs(provider, (f"{what} {group} {number}" for number in range(COUNT)))
    wait_for(lambda: len(lab.fake.calls(None, "chat", "create")) >= LIMIT * 3, 20, 0.1)


def check_all(lab, tally, providers, what, since, server):
    ended = lab.wait_ended(90, *providers.values())
    tally.check(ended, f"{what}: nothing is stuck", log_tails(lab.servers))
    for group, provider in providers.items():
        jobs = [job for job in lab.jobs(provider) if job["key"].startswith(what)]
        check_completed(lab, tally, jobs, f"{what}, {group}: all are completed")
        repeated = check_submissions(lab.fake, tally, jobs, group, explained=EXPLAINED)
        step(f"{what}, {group}: submitted again {repeated}")
    report(lab, tally, f"module upgraded, {what}", providers, since=since, explained=EXPLAINED)
    tally.check(server.process.is_alive(), f"{what}: the server lives")
    lab.fake.forget()


def check_rolling(lab, tally, providers, server):
    """A server with newer code starts, and the database is upgraded, while the old one works on.

    Before the upgrade the newer one runs nothing: it could not store what comes of it.
    """
    addons = copy_newer(lab.folder / "newer")
    start_jobs(lab, providers, "replaced")
    path = [addons, *lab.instance.addons_path]
    path.remove(paths.module_link())
    args = (f"--addons-path={','.join(map(str, path))}",)
    [newer] = lab.start_servers(threaded=1, args=args)
    told = wait_for(lambda: newer.log_text().count(BEHIND), 60, 0.5)
    step(f"replaced: newer code says {told} times that it waits")
    log = lab.folder / "newer-upgrade.log"
    with Feeder(lab, providers, "replaced"):
        of_newer = f"FROM llm_generation_attempt WHERE runner_name LIKE '%:{newer.process.pid}%'"
        ran = lab.sql(f"SELECT count(*) {of_newer}")
        waits = (told, ran) == (1, "0")
        tally.check(waits, "replaced: newer code waits for its upgrade", f"{ran} attempts")
        status = lab.instance.run(*args, *UPGRADE, log=log)
    tally.check(not status, "replaced: it can be done", log.read_text()[-3000:] * bool(status))
    version = lab.sql("SELECT latest_version FROM ir_module_module WHERE name = 'llm_generate_job'")
    tally.check(version == "19.0.99.0.0", "replaced: the database is of the newer version", version)
    add_by_rpc(lab, providers, newer, "replaced newer")
    since = time.time()
    lab.wait_ended(90, *providers.values())
    names = lab.sql("SELECT count(DISTINCT runner_name) FROM llm_generation_attempt")
    step(f"replaced: {names} processes ran jobs")
    check_all(lab, tally, providers, "replaced", since, server)
    newer.stop()


def copy_newer(folder):
    target = folder / "llm_generate_job"
    ignored = shutil.ignore_patterns("addons", "tests", ".git", "dev")
    shutil.copytree(paths.ROOT, target, ignore=ignored)
    manifest = target / "__manifest__.py"
    version = r'(?<="version": ")[\d.]+'
    manifest.write_text(re.sub(version, "19.0.99.0.0", manifest.read_text()))
    (target / "models" / "llm_newer.py").write_text(NEWER)
    with (target / "models" / "__init__.py").open("a") as file:
        file.write("from . import llm_newer\n")
    return folder


def add_by_rpc(lab, providers, server, what):
    """Queue jobs through a server, as its users do."""
    for group, provider in providers.items():
        for number in range(3):
            thread, model = lab.add_thread(provider, f"{what} {number}")
            values = {
                "thread_id": thread,
                "model_id": model,
                "generation_inputs": {"prompt": marked(f"{what} {group} {number}")},
            }
            job_ids = server.call("llm.generation.job", "create", [values])
            server.call("llm.generation.job", "action_queue", job_ids)


if __name__ == "__main__":
    run_main(main)
