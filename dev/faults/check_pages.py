"""The pages of who looks after the queues, in trouble, as axe-core sees them: what is ours is fair.

At a desk and on a phone. LLM_TEST_PICTURES names a folder for a picture of each page.
"""

import os
import time
from pathlib import Path

from fault_lab import ADMIN, FaultLab
from lib import axe, browser
from lib.client import Client
from lib.lab import environment
from lib.say import run_main, step
from lib.tally import Tally
from weather_table import report

SIZES = {"desk": (1440, 900), "phone": (390, 844)}
#: What our templates draw, and what is Odoo's in that: its bars, badges, editors, pictures, and the
#: rows of a list that are of less importance.
OURS = "[class*='o_llm']"
THEIRS = (
    ".o_control_panel, .o_progress, .ace_editor, .badge, .o_optional_columns_dropdown,"
    " tr.text-muted, .o_list_renderer button, .o_list_record_selector, img[src*=avatar]"
)


def main():
    tally = Tally()
    with FaultLab("pages") as lab:
        providers = {name: lab.add_provider(name, "faultchat") for name in ("good", "broken")}
        for provider in providers.values():
            lab.set_queue(provider, auto_retry_failed=False)
        [server] = lab.start_servers(threaded=1)
        lab.fake.order(group="broken", match="bad", fault="status", status=400)
        begin = time.time()
        lab.add_jobs(providers["good"], [f"good {number}" for number in range(3)])
        lab.add_jobs(providers["broken"], [f"bad {number}" for number in range(6)])
        lab.pump()
        tally.check(lab.wait_ended(60, *providers.values()), "the jobs end")
        lab.set_queue(providers["good"], enabled=False)
        lab.add_jobs(providers["good"], ["waits"])
        look = Look(lab, tally, server, providers)
        try:
            look.at_all()
        finally:
            look.browser.close()
        mend(lab, tally, providers)
        report(lab, tally, "pages in trouble", providers, since=begin, explained=("bad_request",))
    return tally.close()


def mend(lab, tally, providers):
    """Have all of them end: the service works again, and a manager retries what failed."""
    lab.fake.order(group="broken")
    lab.set_queue(providers["good"], enabled=True)
    with environment(lab, lab.database, ADMIN) as env:
        env["llm.generation.job"].search([("state", "=", "failed")]).action_retry()
    tally.check(lab.wait_ended(60, *providers.values()), "what failed is mended")


class Look:
    def __init__(self, lab, tally, server, providers):
        self.lab, self.tally, self.server = lab, tally, server
        self.browser = browser.Browser()
        client = Client(server.url, lab.database, "admin", "admin")
        self.browser.take_session(server.url, client.session)
        with environment(lab, lab.database, ADMIN) as env:
            jobs = env["llm.generation.job"].search([], order="id")
            failed, waiting = jobs.filtered(lambda job: job.state == "failed")[0], jobs[-1]
            queue = env["llm.generation.queue"]._get_or_create_queue(providers["broken"])
            of_threads = [("res_model", "=", "llm.thread"), ("view_mode", "=like", "list,%")]
            threads = f"action-{env['ir.actions.act_window'].search(of_threads, limit=1).id}"
            self.addresses = {
                "dashboard": "llm-dashboard",
                "jobs": "llm-generation-jobs",
                "queues": "llm-generation-queues",
                "queue": f"llm-generation-queues/{queue.id}",
                "failed": f"llm-generation-jobs/{failed.id}",
                "waiting": f"llm-generation-jobs/{waiting.id}",
                "talk": f"{threads}/{jobs[0].thread_id.id}",
                "refused": f"{threads}/{failed.thread_id.id}",
                "steps": "llm-first-steps",
            }

    def at_all(self):
        for size, measures in SIZES.items():
            self.browser.resize(*measures)
            for name, address in self.addresses.items():
                self.at(f"{name}, {size}", f"{self.server.url}/odoo/{address}")

    def at(self, title, address):
        step(title)
        complaints = self.browser.open(address)
        self.tally.check(not complaints, f"{title}: the page is drawn", "\n".join(complaints))
        if folder := os.environ.get("LLM_TEST_PICTURES"):
            Path(folder).mkdir(parents=True, exist_ok=True)
            picture = Path(folder) / f"{title.replace(', ', '-')}.png"
            self.browser.page.screenshot(path=picture, full_page=True)
        found = axe.violations(self.browser.page, OURS, THEIRS)
        self.tally.check(not found, f"{title}: nobody is kept out", "\n".join(found[:12]))


if __name__ == "__main__":
    run_main(main)
