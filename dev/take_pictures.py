"""Take a picture of each view that a menu of ours opens: take_pictures.py FOLDER URL DATABASE.

And those of the addon's description page, of what the demo has left. Runs in the Python of Odoo,
which has what drives a browser; screenshots.py starts it.
"""

import io
import sys
from pathlib import Path

from lib import paths
from lib.browser import Browser
from lib.client import Client
from lib.modules import folders
from lib.processes import wait_for
from lib.say import halt, run_main, say
from lib.tally import Tally
from PIL import Image

#: Of a desk and of a phone.
SIZES = ((1440, 900), (390, 844))
#: In which the longest answer is seen whole: a conversation scrolls within its page.
ANSWER_HEIGHT = 1600
DESCRIPTION = paths.ROOT / "static" / "description"
DESK, PHONE, WIDE = (1440, 810), (390, 720), (1440, 560)  # WIDE: the demo's queues fill no more
COLORS = 64
ACTION = "Introduce each contact"
TITLE = "Which chair for the reading room?"
ANSWER = """Of the three, **Oslo** fits best: it is the lightest, and can be stacked.

| Chair | Weight | Seat | Price |
| :--- | ---: | ---: | ---: |
| Oslo | 4.2 kg | 46 cm | 129 € |
| Porto | 5.6 kg | 44 cm | 98 € |
| Turin | 7.1 kg | 47 cm | 214 € |

To order twelve of them:

```python
chair = env["product.product"].search([("default_code", "=", "OSLO")])
order = env["sale.order"].create({
    "partner_id": partner.id,
    "order_line": [Command.create({"product_id": chair.id, "product_uom_qty": 12})],
})
```

Shall I look for a delivery before Friday?"""
#: Where nobody answers.
NOWHERE = "http://127.0.0.1:9/v1"


def views_of(client):
    """Yield (name, address, what is pressed there) of each view that our menus open."""
    menus = client.call("ir.ui.menu", "load_menus", False)
    seen = set()
    for menu in menus.values():
        module = (menu.get("xmlid") or "").partition(".")[0]
        key = (menu.get("action_model"), menu.get("action_id"))
        if module in folders() and key[1] and key not in seen:
            seen.add(key)
            yield from _views_of_action(client, menu["name"], *key)


def _views_of_action(client, name, model, action_id):
    slug = name.lower().replace(" ", "-")
    address = f"{client.url}/odoo/action-{action_id}"
    if model != "ir.actions.act_window":
        yield slug, address, ""
        return
    action = client.action(action_id)
    for mode in action["view_mode"].split(","):
        if mode != "form":
            yield f"{slug}-{mode}", f"{address}?view_type={mode}", ""
            continue
        records = client.call(action["res_model"], "search", [], limit=1, order="id desc")
        if records or client.call(action["res_model"], "has_access", [], "create"):
            yield f"{slug}-form", f"{address}/{records[0] if records else 'new'}", ""


def make_scene(client):
    """Have a server action of ours, and jobs that it asked for, which the demo has not."""
    if not client.call("ir.actions.server", "search", [["name", "=", ACTION]]):
        _make_action(client)
    live = [["state", "in", ["queued", "running"]]]
    if not wait_for(lambda: not client.call("llm.generation.job", "search", live), 60, 0.5):
        halt("the jobs of the server action did not end in a minute.")


def _make_action(client):
    (model,) = client.call("ir.model", "search", [["model", "=", "res.partner"]])
    completed = [["state", "=", "completed"]]
    jobs = client.call("llm.generation.job", "search_read", completed, ["model_id"], limit=1)
    [action] = client.call("ir.actions.server", "create", [{
        "name": ACTION,
        "model_id": model,
        "state": "llm_generate",
        "llm_model_id": jobs[0]["model_id"][0],
        "llm_prompt": "Who is {{ object.name }}? Answer in one sentence.",
    }])  # fmt: skip
    partners = client.call("res.partner", "search", [], limit=5)
    context = {"active_model": "res.partner", "active_ids": partners, "active_id": partners[0]}
    client.call("ir.actions.server", "run", [action], context=context)


def make_answers(client):
    """Have a conversation with the answers of the tests, of which each is to be looked at."""
    title = "Answers in Markdown"
    [*threads] = client.call("llm.thread", "search", [["name", "=", title]])
    if not threads:
        threads = client.call("llm.thread", "create", [{"name": title}])
        for path in sorted((paths.ROOT / "tests" / "answers").glob("*.md")):
            text = path.read_bytes().decode()
            for role, body in (("user", path.stem), ("assistant", text)):
                client.call("llm.thread", "message_post", threads, body=body, llm_role=role)
    return threads[0]


def take_answers(browser, tally, folder, client):
    """Take a picture of each of those answers, on a desk and on a phone."""
    thread = make_answers(client)
    for width, _height in SIZES:
        size = (width, ANSWER_HEIGHT)
        take(browser, tally, f"answers, {width}", f"{client.url}/odoo/llm-threads/{thread}", size)
        bubbles = browser.page.query_selector_all(".o_llm_message[data-role=assistant]")
        for number, bubble in enumerate(bubbles, 1):
            bubble.screenshot(path=folder / f"answer-{number:02}-{width}.png")


def make_talk(client):
    """Have a conversation with a table and code; return its id."""
    threads = client.call("llm.thread", "search", [["name", "=", TITLE]])
    if not threads:
        threads = client.call("llm.thread", "create", [{"name": TITLE}])
        asked = "Compare the three chairs of our catalog, and show how I order twelve of the best."
        for role, body in (("user", asked), ("assistant", ANSWER)):
            client.call("llm.thread", "message_post", threads, body=body, llm_role=role)
    return threads[0]


class Trouble:
    """What the pages show when a provider does not answer, and another one is paused."""

    def __init__(self, admin, user):
        self.admin, self.user = admin, user
        self.archived = []
        self.broken, self.paused = self._provider("Broken AI"), self._provider("Paused AI")
        self.queue = self._queue(self.broken, {"auto_retry_failed": False})
        self._queue(self.paused, {"enabled": False})
        # Not as the administrator, whose pages would tell of each failure in a corner.
        asked = [self._ask(self.broken) for _question in range(5)]
        self.waits = self._ask(self.paused)
        self.broke = asked[0]
        failed = [["provider_id", "=", self.broken], ["state", "=", "failed"]]
        if not wait_for(lambda: len(self._jobs(failed)) == len(asked), 120, 0.5):
            halt("the jobs of a provider that does not answer did not fail in two minutes.")
        self.failed = self._jobs(failed)[0]
        self.waiting = self._jobs([["provider_id", "=", self.paused]])[0]

    def _provider(self, name):
        values = {"name": name, "service": "openai", "api_base": NOWHERE, "api_key": "none"}
        [provider] = self.admin.call("llm.provider", "create", [values])
        model = {"name": f"{name} one", "provider_id": provider, "model_use": "chat"}
        self.admin.call("llm.model", "create", [model])
        return provider

    def _queue(self, provider, values):
        model, domain = "llm.generation.queue", [["provider_id", "=", provider]]
        [queue] = self.admin.call(model, "search", domain)
        self.admin.call(model, "write", [queue], values)
        return queue

    def _ask(self, provider):
        values = {"name": "Letters to customers", "provider_id": provider}
        [thread] = self.user.call("llm.thread", "create", [values])
        question = "Write a letter to each customer whose invoice is due."
        self.user.call("llm.thread", "ask_in_queue", [thread], message=question, use_queue=True)
        return thread

    def _jobs(self, domain):
        return self.admin.call("llm.generation.job", "search", domain)

    def pages(self):
        """Yield (name, client, address, what is pressed there)."""
        jobs = "/odoo/llm-generation-jobs"
        incident = ".o_llm_incident:has-text('Broken AI')"
        yield "trouble-dashboard", self.admin, "/odoo/llm-dashboard", ""
        yield "trouble-move", self.admin, "/odoo/llm-dashboard", f"{incident} [data-button=move]"
        yield "trouble-queue", self.admin, f"/odoo/llm-generation-queues/{self.queue}", ""
        yield "trouble-job", self.admin, f"{jobs}/{self.failed}", ""
        yield "trouble-waiting-job", self.admin, f"{jobs}/{self.waiting}", ""
        yield "trouble-chat", self.user, f"/odoo/llm-threads/{self.broke}", ""
        yield "trouble-waiting-chat", self.user, f"/odoo/llm-threads/{self.waits}", ""
        yield "trouble-jobs", self.user, jobs, ""
        self.archived = self.admin.call("llm.model", "search", [])
        self.admin.call("llm.model", "write", self.archived, {"active": False})
        yield "first-steps", self.admin, "/odoo/llm-first-steps", ""

    def clear(self):
        """Leave nothing of it."""
        self.admin.call("llm.model", "write", self.archived, {"active": True})
        ours = [["provider_id", "in", [self.broken, self.paused]]]
        waits = [*ours, ["state", "in", ["queued", "running"]]]
        self.admin.call("llm.generation.job", "action_cancel", self._jobs(waits))
        self.admin.call("llm.generation.job", "unlink", self._jobs(ours))
        for client in (self.user, self.admin):
            threads = client.call("llm.thread", "search", ours)
            client.call("llm.thread", "unlink", threads)
        models = self.admin.call("llm.model", "search", ours)
        self.admin.call("llm.model", "unlink", models)
        self.admin.call("llm.provider", "unlink", [self.broken, self.paused])


def more_pages(client):
    """Yield (name, address, what is pressed there) of pages that no menu opens."""
    for name, model, domain, action, press in (
        ("action", "ir.actions.server", [["name", "=", ACTION]], "base.action_server_action", ""),
        (
            "user",
            "res.users",
            [["login", "=", "demo"]],
            "base.action_res_users",
            _tab("preferences"),
        ),
    ):
        if client.call(model, "has_access", [], "write"):
            [record] = client.call(model, "search", domain, limit=1)
            yield name, f"{client.url}/odoo/action-{action}/{record}", press


def _tab(name):
    """Return the selector of a page of a notebook."""
    return f".nav-link[name={name}]"


def of_description(admin, talk):
    """Yield (name, login, address, size, what is pressed there) of the description's pictures."""

    def newest(model, domain, field="id"):
        [found] = admin.call(model, "search_read", domain, [field], limit=1, order="id desc")
        return found[field][0] if isinstance(found[field], (list, tuple)) else found[field]

    job = newest("llm.generation.attempt", [["number", ">", 1]], "job_id")
    queue = newest("llm.generation.queue", [])
    yield "dashboard", "admin", "/odoo/llm-dashboard", WIDE, ""
    yield "jobs", "admin", "/odoo/llm-generation-jobs", DESK, ""
    yield "queue", "admin", f"/odoo/llm-generation-queues/{queue}", DESK, ""
    yield "attempts", "admin", f"/odoo/llm-generation-jobs/{job}", DESK, _tab("attempts")
    yield "conversation", "demo", f"/odoo/llm-threads/{talk}", DESK, ""
    yield "phone", "demo", f"/odoo/llm-threads/{talk}", PHONE, ""


def take(browser, tally, title, address, size, press=""):
    """Return the picture of a page as the bytes of a PNG."""
    browser.resize(*size)
    errors = browser.open(address)
    if press:
        browser.page.click(press)
        browser.page.wait_for_timeout(1000)
    tally.check(not errors, title, "\n".join(errors))
    return browser.page.screenshot()


def take_trouble(browser, tally, folder, clients):
    """Take the pictures of trouble, that of the description page among them."""
    trouble = Trouble(clients["admin"], clients["demo"])
    try:
        for name, client, path, press in trouble.pages():
            browser.take_session(client.url, client.session)
            for size in SIZES:
                picture = take(browser, tally, f"{name}, {size[0]}", client.url + path, size, press)
                (folder / f"{name}-{size[0]}.png").write_bytes(picture)
        dashboard = folder / f"trouble-dashboard-{SIZES[0][0]}.png"
        save_small(dashboard.read_bytes(), DESCRIPTION / "trouble.png")
    finally:
        trouble.clear()


def save_small(picture, path):
    image = Image.open(io.BytesIO(picture)).convert("RGB")
    image.quantize(COLORS, dither=Image.Dither.NONE).save(path, optimize=True)


def main():
    folder, url, database = Path(sys.argv[1]), *sys.argv[2:4]
    tally = Tally()
    clients = {login: Client(url, database, login, login) for login in ("admin", "demo")}
    make_scene(clients["admin"])
    browser = Browser()
    try:
        for login, client in clients.items():
            browser.take_session(url, client.session)
            for name, address, press in (*views_of(client), *more_pages(client)):
                for size in SIZES:
                    title = f"{login}: {name}, {size[0]}"
                    picture = take(browser, tally, title, address, size, press)
                    (folder / f"{login}-{name}-{size[0]}.png").write_bytes(picture)
        browser.take_session(url, clients["demo"].session)
        take_answers(browser, tally, folder, clients["demo"])
        for name, login, path, size, press in of_description(
            clients["admin"], make_talk(clients["demo"])
        ):
            browser.take_session(url, clients[login].session)
            title = f"the description's picture: {name}"
            picture = take(browser, tally, title, url + path, size, press)
            save_small(picture, DESCRIPTION / f"{name}.png")
        take_trouble(browser, tally, folder, clients)
    finally:
        browser.close()
    say(f"the pictures are in {folder}, those of the description page in {DESCRIPTION}")
    return tally.close()


if __name__ == "__main__":
    run_main(main)
