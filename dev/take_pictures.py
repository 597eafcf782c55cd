"""Take a picture of each view that a menu of ours opens: take_pictures.py FOLDER URL DATABASE.

Runs in the Python of Odoo, which has what drives a browser; screenshots.py starts it.
"""

import json
import sys
import urllib.request
from pathlib import Path

from lib import portraits, scenes
from lib.browser import Browser
from lib.modules import folders
from lib.say import halt, run_main, say
from lib.tally import Tally

USERS = (("admin", "admin"), ("demo", "demo"))
#: Of a desk and of a phone.
SIZES = ((1440, 900), (390, 844))


class Client:
    """A user of Odoo over its web interface."""

    def __init__(self, url, database, login, password):
        self.url = url
        self.session = ""
        credentials = {"db": database, "login": login, "password": password}
        self.uid = self._post("/web/session/authenticate", credentials)["uid"]

    def _post(self, path, params):
        request = urllib.request.Request(
            self.url + path,
            json.dumps({"jsonrpc": "2.0", "method": "call", "params": params}).encode(),
            {"Content-Type": "application/json", "Cookie": f"session_id={self.session}"},
        )
        with urllib.request.urlopen(request, timeout=60) as answer:
            cookies = answer.headers.get_all("Set-Cookie") or []
            reply = json.load(answer)
        for cookie in cookies:
            if cookie.startswith("session_id="):
                self.session = cookie.partition("=")[2].partition(";")[0]
        if "error" in reply:
            raise PermissionError(reply["error"]["data"]["message"])
        return reply["result"]

    def call(self, model, method, *args, **kwargs):
        params = {"model": model, "method": method, "args": args, "kwargs": kwargs}
        return self._post(f"/web/dataset/call_kw/{model}/{method}", params)

    def action(self, action_id):
        """Return a window action as a menu opens it: only administrators read the records."""
        return self._post("/web/action/load", {"action_id": action_id})


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


def main():
    folder, url, database = Path(sys.argv[1]), *sys.argv[2:4]
    tally = Tally()
    browser = Browser()
    clients = {}
    try:
        for login, password in USERS:
            try:
                client = clients[login] = Client(url, database, login, password)
            except PermissionError:
                halt(f"there is no user {login} yet: run 'make demo' first.")
            if login == "admin":
                scenes.prepare(client)
            browser.take_session(url, client.session)
            for name, address, tab in (*views_of(client), *scenes.addresses(client)):
                for width, height in SIZES:
                    browser.resize(width, height)
                    errors = browser.open(address)
                    if tab:
                        browser.click(f".nav-link[name={tab}]")
                    browser.save_picture(folder / f"{login}-{name}-{width}.png")
                    tally.check(not errors, f"{login}: {name}, {width}", "\n".join(errors))
        portraits.take(browser, clients, tally)
    finally:
        browser.close()
    say(f"the pictures are in {folder}, those of the description page in {portraits.FOLDER}")
    return tally.close()


if __name__ == "__main__":
    run_main(main)
