"""What a manager waits for when a million jobs are in the table."""

import statistics
import time

import backlog_data
from lib.browser import Browser
from lib.client import Client
from lib.lab import environment
from lib.say import say, step
from report import row

NAMES = ("screens",)
ROUNDS = 1
#: Those of the lanes included.
QUEUES = 50
QUEUED, FINISHED = 100_000, 1_000_000
#: Jobs with texts: more than a search looks at.
SAID = 50_000
LOOKS, CALLS = 5, 15
MENU = "llm_generate_job.llm_generation_menu"
DASHBOARD = "llm_generate_job.llm_generation_dashboard_menu"

# An action takes the place of the last one when it is drawn; what it asked for meanwhile, and
# still asks for, counts.
_OPEN = """
    async ({ root, menu }) => {
        const { rpcBus } = odoo.loader.modules.get("@web/core/network/rpc");
        const waiting = new Set();
        const onRequest = ({ detail }) => waiting.add(detail.data.id);
        const onResponse = ({ detail }) => waiting.delete(detail.data.id);
        const end = performance.now() + 60_000;
        const until = async (find) => {
            let found;
            while (!(found = find())) {
                if (performance.now() > end) {
                    throw new Error("it did not open in a minute");
                }
                await new Promise((resolve) => setTimeout(resolve, 5));
            }
            return found;
        };
        const action = () => document.querySelector(".o_action_manager .o_action");
        const last = await until(action);
        document.querySelector(`.o_menu_sections [data-menu-xmlid='${root}']`).click();
        const item = await until(() =>
            document.querySelector(`.o-dropdown--menu [data-menu-xmlid='${menu}']`));
        rpcBus.addEventListener("RPC:REQUEST", onRequest);
        rpcBus.addEventListener("RPC:RESPONSE", onResponse);
        const begin = performance.now();
        item.click();
        for (let calm = 0; calm < 3; calm++) {
            await until(() => action() && action() !== last && !waiting.size);
            await new Promise(requestAnimationFrame);
            calm = waiting.size ? 0 : calm;
        }
        const seconds = (performance.now() - begin) / 1000;
        rpcBus.removeEventListener("RPC:REQUEST", onRequest);
        rpcBus.removeEventListener("RPC:RESPONSE", onResponse);
        return seconds;
    }
"""


def measure(stand, _number):
    _fill(stand)
    server = stand.lab.instance.server("screens", name="screens", cron_threads=0).start()
    client = Client(server.url, "screens", "admin", "admin")
    browser = Browser((1440, 900))
    try:
        browser.take_session(server.url, client.session)
        return {
            "calls": _call(client),
            "searches": _search(client),
            "menus": _open_menus(browser, client),
        }
    finally:
        browser.close()
        server.stop()


def _fill(stand):
    stand.database("screens")
    with environment(stand.lab, "screens") as env:
        backlog_data.prepare(env, QUEUES - len(env["llm.generation.queue"].search([])))
    step(f"{QUEUED:,} queued and {FINISHED:,} finished jobs …")
    with stand.connect("screens") as cursor:
        backlog_data.queue(cursor, QUEUED)
        backlog_data.finish(cursor, FINISHED)
        backlog_data.say(cursor, SAID)
        backlog_data.settle(cursor)


def _call(client):
    """Return the milliseconds of each call for what the dashboard draws."""
    times = []
    for _ in range(CALLS + 1):
        begin = time.perf_counter()
        dashboard = client.call("llm.generation.queue", "get_dashboard")
        times.append(1000 * (time.perf_counter() - begin))
    drawn = len(dashboard["cards"]), dashboard["totals"]["waiting"]
    if drawn != (QUEUES, QUEUED):
        message = f"the dashboard shows {drawn[0]} queues and {drawn[1]} waiting jobs"
        raise RuntimeError(message)
    return times[1:]


def _search(client):
    """Return the seconds of each search in questions and answers, of a page of what it finds."""
    times, domain = [], [["conversation_text", "ilike", backlog_data.NEEDLE]]
    for _ in range(LOOKS + 1):
        begin = time.perf_counter()
        found = client.call("llm.generation.job", "search_read", domain, ["name"], limit=80)
        times.append(time.perf_counter() - begin)
    if not found:
        message = "the search found nothing"
        raise RuntimeError(message)
    return times[1:]


def _open_menus(browser, client):
    """Return the seconds that each menu takes, by its name."""
    menus = client.call("ir.ui.menu", "load_menus", False)
    (root,) = (menu for menu in menus.values() if menu.get("xmlid") == MENU)
    browser.open(f"{client.url}/odoo/llm-threads")
    browser.page.wait_for_selector(".o_menu_sections")
    times = {}
    for _fetch in range(LOOKS + 1):
        for child in root["children"]:
            menu = menus[str(child)]
            step(f"{menu['name']} …")
            seconds = browser.page.evaluate(_OPEN, {"root": MENU, "menu": menu["xmlid"]})
            if browser.errors:
                message = f"{menu['name']} did not open: {browser.errors}"
                raise RuntimeError(message)
            times.setdefault(menu["xmlid"], []).append(seconds)
    return {menu: statistics.median(some[1:]) for menu, some in times.items()}


def rows(rounds):
    (figures,) = rounds
    menus = dict(figures["menus"])
    for menu, seconds in menus.items():
        say(f"{menu}: {seconds:.2f} s")
    jobs = f"{FINISHED:,} jobs"
    yield row(f"dashboard of {QUEUES} queues, {jobs}: its call over HTTP (ms)",
              statistics.median(figures["calls"]), at_most=50)  # fmt: skip
    yield row(f"dashboard of {QUEUES} queues, {jobs}: from the click (s)",
              menus.pop(DASHBOARD), at_most=1)  # fmt: skip
    yield row(f"slowest other menu, {jobs}: from the click (s)",
              max(menus.values()), at_most=1)  # fmt: skip
    yield row(f"search in questions and answers, {jobs}: its call over HTTP (s)",
              statistics.median(figures["searches"]), at_most=1)  # fmt: skip
