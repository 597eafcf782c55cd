"""The chat page in a browser, as a user and as a manager, at a desk and on a phone, in trouble too.

With FAMILY it is the family's own page, and on a phone, where that opens a form in its place, the
AI button of a record's chatter; else the conversation of the stand-ins. LLM_TEST_PICTURES names a
folder for a picture of each scene.
"""

import os
import time
from contextlib import contextmanager
from pathlib import Path

from fault_lab import ADMIN, FaultLab
from lib import browser
from lib.client import Client
from lib.lab import environment
from lib.say import run_main, step
from lib.tally import Tally
from weather_table import report

SIZES = {"desk": (1440, 900), "phone": (390, 844)}
#: Who may ask at all: with the family, members of its own group, else every user.
GROUPS = {"user": "llm.group_llm_user", "manager": "llm.group_llm_manager"}
#: Whose screens are looked at: a manager is offered more, and the same on each.
SCREENS = (("user", "desk"), ("user", "phone"), ("manager", "desk"))
ACTION = "llm_thread.chat_client_action"
#: What a browser says by itself while a server is away; no script of a page failed.
AWAY = ("net::ERR_", "WebSocket", "Failed to fetch", "ConnectionLost", "Connection to")
#: Milliseconds until what is expected is shown; the first page builds its assets.
PATIENCE = 90_000
#: Lengths that one sees at least of an answer which grows for so many seconds.
PIECES, SECONDS = 4, 15

FAMILY_PAGE = {
    "input": ".o-llm-composer-area .o-mail-Composer-input",
    "answer": ".o-llm-thread-area .o-mail-Message",
    "waiting": ".o_llm_generation_status:has-text('Paused by an administrator')",
    "paused": ".o_llm_generation_status:has-text('asked for a pause')",
    "running": ".o_llm_generation_status:has-text('being generated')",
    "cancel": ".o_llm_generation_status button:has-text('Cancel')",
    "cancelled": ".o_llm_generation_status:has-text('cancelled')",
    "failure": ".o_llm_generation_status.alert-danger",
    "retry": ".o_llm_generation_status button:has-text('Retry')",
}
OUR_PAGE = {
    "input": ".o_llm_input textarea",
    "answer": ".o_llm_message",
    "waiting": ".o_llm_job:has-text('Paused by an administrator')",
    "paused": ".o_llm_job:has-text('asked for a pause')",
    "running": ".o_llm_stop",
    "cancel": ".o_llm_stop:has-text('Cancel')",
    "cancelled": ".o_llm_job:has-text('Cancelled')",
    "failure": ".o_llm_failure",
    "retry": ".o_llm_retry",
}
#: Nobody is told of an error that is none.
ALARM = ".o_notification .bg-danger, .o_error_dialog"


def main():
    tally = Tally()
    with FaultLab("chat-page") as lab:
        (server,) = lab.start_servers(threaded=1)
        with environment(lab, lab.database) as env:
            action = env["ir.actions.client"].search([("tag", "=", ACTION)], limit=1).id
        for login, group in GROUPS.items():
            lab.add_users(login, group=group)
        for login, size in SCREENS:
            begin = time.time()
            scenes = Scenes(lab, tally, server, action, login, size)
            try:
                scenes.play()
            finally:
                scenes.browser.close()
            report(lab, tally, f"trouble on the chat page, {scenes.name}",
                   {scenes.group: scenes.provider}, since=begin,
                   ends=("completed", "cancelled"), explained=())  # fmt: skip
    return tally.close()


class Scenes:
    """What one person sees, on a screen of one size."""

    def __init__(self, lab, tally, server, action, login, size):
        self.lab, self.tally, self.server, self.action = lab, tally, server, action
        self.login, self.name = login, f"{login}, {size}"
        self.group = f"{login}-{size}"
        self.client = Client(server.url, lab.database, login, login)
        self.provider = lab.add_provider(self.group, "openai", always_queue=True)
        self.browser = browser.Browser(SIZES[size])
        self.browser.take_session(server.url, self.client.session)
        self.page = FAMILY_PAGE if action else OUR_PAGE
        self.partner = None

    def play(self):
        scenes = [
            *(self.place_and_cancel, self.growing_answer, self.error_and_advice),
            *(self.error_and_retry, self.paused, self.provider_down, self.server_restarted),
        ]
        for scene in [*scenes, self.chatter] if self.action else scenes:
            title = scene.__name__.replace("_", " ")
            with self.scene(title):
                scene()

    # === SCENES === #

    def place_and_cancel(self):
        self.lab.set_queue(self.provider, enabled=False)
        thread = self.open()
        self.say("How are you?")
        self.sees("waiting")
        self.picture("place")
        with self.second_tab(thread) as other:
            other.click(self.page["cancel"])
            self.sees("cancelled", other)
        self.sees("cancelled")
        self.picture("cancelled")

    def growing_answer(self):
        self.lab.fake.order(group=self.group, pieces=60, delay=SECONDS, times=1)
        thread = self.open()
        with self.second_tab(thread) as other:
            self.say("Tell me a long story")
            self.sees("running")
            self.sees("running", other)
            ended = f"{self.page['answer']}:has-text('58 59')"
            tabs = {self.browser.page: set(), other: set()}
            deadline = time.monotonic() + PATIENCE / 1000
            while time.monotonic() < deadline:
                for page, lengths in tabs.items():
                    lengths.add(len(self.answer(page)))
                if len(tabs[self.browser.page]) == PIECES:
                    self.picture("growing")
                if all(page.query_selector(ended) for page in tabs):
                    break
                other.wait_for_timeout(100)
            seen = [sorted(lengths) for lengths in tabs.values()]
            grew = min(map(len, seen)) >= PIECES
            self.tally.check(grew, f"{self.name}: it grows in both tabs", f"{seen}")
            for page in tabs:
                page.wait_for_selector(ended, timeout=PATIENCE)
                self.gone("running", page)
        self.picture("answered")

    def error_and_advice(self):
        """Another try would be refused, too: a user is told what to do, a manager may retry it."""
        order = {"group": self.group, "fault": "status", "status": 400}
        self.lab.fake.order(**order, times=1)
        self.open()
        self.say("Is this a mistake?")
        self.sees("failure")
        self.gone("running")  # what can be done is shown once all is over
        self.picture("refused")
        told = self.browser.page.inner_text("body")
        offered = bool(self.browser.page.query_selector(self.page["retry"]))
        is_manager = self.login == "manager"
        self.tally.check(
            ("other words" in told, offered) == (not is_manager, is_manager),
            f"{self.name}: what to do is said, or offered", told,
        )  # fmt: skip
        with environment(self.lab, self.lab.database, ADMIN) as env:
            failed = env["llm.generation.job"].search([
                ("provider_id", "=", self.provider),
                ("state", "=", "failed"),
            ])  # fmt: skip
            failed.action_retry()
        self.browser.page.wait_for_selector(
            f"{self.page['answer']}:has-text('Answer to Is this')", timeout=PATIENCE
        )

    def error_and_retry(self):
        self.lab.set_queue(self.provider, auto_retry_failed=False)
        self.lab.fake.order(group=self.group, fault="half", pieces=6, times=1)
        self.open()
        self.say("Is this a mistake?")
        self.sees("failure")
        self.picture("error")
        self.browser.page.click(self.page["retry"])
        self.browser.page.wait_for_selector(
            f"{self.page['answer']}:has-text('Answer to Is this')", timeout=PATIENCE
        )
        self.gone("failure")

    def paused(self):
        """A service that has enough of us for a while."""
        order = {"group": self.group, "fault": "status", "status": 429, "retry_after": 12}
        self.lab.fake.order(**order, times=1)
        self.open()
        self.say("Are you tired?")
        self.sees("paused")
        self.browser.page.wait_for_timeout(2500)
        self.picture("paused")
        self.browser.page.wait_for_selector(
            f"{self.page['answer']}:has-text('Answer to Are you tired')", timeout=PATIENCE
        )

    def provider_down(self):
        self.lab.fake.down()
        try:
            self.open()
            self.say("Are you there?")
            self.browser.page.wait_for_timeout(3500)
            self.picture("down")
            words = self.browser.page.inner_text("body").split()
            self.tally.check("false" not in words, f"{self.name}: buttons have labels")
        finally:
            self.lab.fake.up()
        self.browser.page.wait_for_selector(
            f"{self.page['answer']}:has-text('Answer to Are you there')", timeout=PATIENCE
        )

    def server_restarted(self):
        """Who waits while Odoo starts again gets the answer, and need not ask twice."""
        self.lab.set_queue(self.provider, enabled=False)
        self.open()
        self.say("Do you remember me?")
        self.sees("waiting")
        self.server.stop()
        self.browser.page.wait_for_timeout(6000)
        self.picture("away")
        self.server.start()
        self.lab.set_queue(self.provider, enabled=True)
        self.browser.page.wait_for_selector(
            f"{self.page['answer']}:has-text('Answer to Do you remember')", timeout=PATIENCE
        )
        self.gone("waiting")
        self.browser.errors[:] = [
            error for error in self.browser.errors if not any(word in error for word in AWAY)
        ]

    def chatter(self):
        """The AI button beside the messages of a record."""
        self.open_beside_a_record()
        self.say("Who is this?")
        self.browser.page.wait_for_selector(
            f"{self.page['answer']}:has-text('Answer to Who is this')", timeout=PATIENCE
        )
        self.picture("chatter")
        states = [job["state"] for job in self.lab.jobs(self.provider)]
        self.tally.check(states[-1] == "completed", f"{self.name}: by the queue", f"{states}")

    # === MEANS === #

    @contextmanager
    def scene(self, title):
        step(f"{self.name}: {title}")
        # What the scene before left behind is over.
        self.lab.fake.order(group=self.group)
        self.lab.set_queue(self.provider, enabled=True, auto_retry_failed=True)
        self.browser.errors.clear()
        try:
            yield
        except self.browser.timeout as error:
            self.picture(f"failed-{title.replace(' ', '-')}")
            text = self.browser.page.inner_text("body")
            self.tally.fail(f"{self.name}: {title}", f"{error}\n{text}\n{self.browser.errors}")
            return
        errors = [*self.browser.errors]
        alarms = self.browser.page.query_selector_all(ALARM)
        errors += [alarm.inner_text() for alarm in alarms]
        self.tally.check(not errors, f"{self.name}: {title}, no error", "\n".join(errors))

    def new_thread(self, **values):
        (model,) = self.client.call("llm.model", "search", [["provider_id", "=", self.provider]])
        values |= {"name": "A talk", "provider_id": self.provider, "model_id": model}
        return self.client.call("llm.thread", "create", [values])[0]

    def address(self, thread):
        page = f"action-{self.action}?active_id=llm.thread_{thread}"
        return f"{self.server.url}/odoo/{page if self.action else f'llm-threads/{thread}'}"

    def open(self):
        if self.action and self.browser.page.viewport_size["width"] < 768:
            return self.open_beside_a_record()
        thread = self.new_thread()
        self.visit(self.browser.page, self.address(thread))
        self.sees("input")
        return thread

    def open_beside_a_record(self):
        with environment(self.lab, self.lab.database) as env:
            self.partner = env["res.partner"].create({"name": f"Partner of {self.name}"}).id
        thread = self.new_thread(model="res.partner", res_id=self.partner)
        self.visit_record(self.browser.page)
        return thread

    def visit_record(self, page):
        self.visit(page, f"{self.server.url}/odoo/res.partner/{self.partner}")
        page.click(".o-mail-Chatter-aiChat", timeout=PATIENCE)
        self.sees("input", page)

    @staticmethod
    def visit(page, address):
        page.goto("about:blank")
        page.goto(address, wait_until="commit", timeout=2 * PATIENCE)

    @contextmanager
    def second_tab(self, thread):
        page = self.browser.tab()
        if self.partner:
            self.visit_record(page)
        else:
            self.visit(page, self.address(thread))
            self.sees("input", page)
        try:
            yield page
        finally:
            page.close()

    def say(self, text):
        self.browser.page.fill(self.page["input"], text, timeout=PATIENCE)
        self.browser.page.press(self.page["input"], "Enter")

    def sees(self, what, page=None):
        (page or self.browser.page).wait_for_selector(self.page[what], timeout=PATIENCE)

    def gone(self, what, page=None):
        (page or self.browser.page).wait_for_selector(
            self.page[what], state="detached", timeout=PATIENCE
        )

    def answer(self, page):
        found = page.query_selector_all(self.page["answer"])
        return found[-1].inner_text() if found else ""

    def picture(self, name):
        if folder := os.environ.get("LLM_TEST_PICTURES"):
            Path(folder).mkdir(parents=True, exist_ok=True)
            self.browser.page.screenshot(path=Path(folder) / f"{self.group}-{name}.png")


if __name__ == "__main__":
    run_main(main)
