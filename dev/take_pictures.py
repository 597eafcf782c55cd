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


def views_of(client):
    """Yield (name, address, page of a notebook) of each view that our menus open for this user."""
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


def more_pages(client):
    """Yield (name, address, page of a notebook) of pages that no menu opens."""
    for name, model, domain, action, tab in (
        ("action", "ir.actions.server", [["name", "=", ACTION]], "base.action_server_action", ""),
        ("user", "res.users", [["login", "=", "demo"]], "base.action_res_users", "preferences"),
    ):
        if client.call(model, "has_access", [], "write"):
            [record] = client.call(model, "search", domain, limit=1)
            yield name, f"{client.url}/odoo/action-{action}/{record}", tab


def of_description(admin):
    """Yield (name, login, address, size, page of a notebook) of the description's pictures."""

    def newest(model, domain, field="id"):
        [found] = admin.call(model, "search_read", domain, [field], limit=1, order="id desc")
        return found[field][0] if isinstance(found[field], (list, tuple)) else found[field]

    job = newest("llm.generation.attempt", [["number", ">", 1]], "job_id")
    answered = [["user_id.login", "=", "demo"], ["state", "=", "completed"]]
    thread = newest("llm.generation.job", answered, "thread_id")
    queue = newest("llm.generation.queue", [])
    yield "dashboard", "admin", "/odoo/llm-dashboard", WIDE, ""
    yield "jobs", "admin", "/odoo/llm-generation-jobs", DESK, ""
    yield "queue", "admin", f"/odoo/llm-generation-queues/{queue}", DESK, ""
    yield "attempts", "admin", f"/odoo/llm-generation-jobs/{job}", DESK, "attempts"
    yield "conversation", "demo", f"/odoo/llm-threads/{thread}", DESK, ""
    yield "phone", "demo", f"/odoo/llm-threads/{thread}", PHONE, ""


def take(browser, tally, title, address, size, tab=""):
    """Return the picture of a page as the bytes of a PNG."""
    browser.resize(*size)
    errors = browser.open(address)
    if tab:
        browser.page.click(f".nav-link[name={tab}]")
        browser.page.wait_for_timeout(500)
    tally.check(not errors, title, "\n".join(errors))
    return browser.page.screenshot()


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
            for name, address, tab in (*views_of(client), *more_pages(client)):
                for size in SIZES:
                    title = f"{login}: {name}, {size[0]}"
                    picture = take(browser, tally, title, address, size, tab)
                    (folder / f"{login}-{name}-{size[0]}.png").write_bytes(picture)
        browser.take_session(url, clients["demo"].session)
        take_answers(browser, tally, folder, clients["demo"])
        for name, login, path, size, tab in of_description(clients["admin"]):
            browser.take_session(url, clients[login].session)
            title = f"the description's picture: {name}"
            picture = take(browser, tally, title, url + path, size, tab)
            save_small(picture, DESCRIPTION / f"{name}.png")
    finally:
        browser.close()
    say(f"the pictures are in {folder}, those of the description page in {DESCRIPTION}")
    return tally.close()


if __name__ == "__main__":
    run_main(main)
