"""Event streams of a slow provider leave the pool of connections to the others."""

import html
import http.client
import http.cookiejar
import json
import re
import threading
import time
import urllib.error
import urllib.parse
import urllib.request

from fault_lab import FaultLab
from lib.lab import environment
from lib.processes import wait_for
from lib.say import run_main, step
from lib.tally import Tally
from weather_table import report

#: Connections of the server's pool. A quarter of them is how many answers it gives directly.
POOL = 32
#: Seconds that the provider takes for its first word.
DELAY = 12
USERS = 4
#: Streams that each user asks for at once; `USER_STREAMS` of `runner/streams.py`.
ASKED, ALLOWED = 12, 5
#: Seconds between them: each request needs a connection for a moment, before it becomes a stream.
PACE = 0.05
#: Seconds that any other page may take meanwhile.
QUICK = 4
#: Holds something to a bar in seconds.
QUIET = True
#: Connections of the server, and those whose transaction has been idle for longer than a look.
SESSIONS = """
    SELECT count(*) AS connections,
        count(*) FILTER (WHERE state LIKE 'idle in transaction%%'
            AND clock_timestamp() - state_change > interval '1 second') AS idle
    FROM pg_stat_activity
    WHERE backend_type = 'client backend' AND application_name = 'odoo-{pid}'
"""


class Browser:
    """A user who logged in, with as many tabs as they like."""

    def __init__(self, url, database, login):
        self.url, self.login = url, login
        self.opener = urllib.request.build_opener(
            urllib.request.ProxyHandler({}),
            urllib.request.HTTPCookieProcessor(http.cookiejar.CookieJar()),
        )
        params = {"db": database, "login": login, "password": login}
        self.rpc("/web/session/authenticate", **params)
        page = self.open("/web/login").read().decode()
        self.token = html.unescape(re.search(r'name="csrf_token" value="([^"]+)"', page)[1])

    def open(self, path, data=None, **headers):
        request = urllib.request.Request(self.url + path, data, headers)
        return self.opener.open(request, timeout=120)

    def rpc(self, path, **params):
        body = json.dumps({"jsonrpc": "2.0", "method": "call", "params": params}).encode()
        with self.open(path, body, **{"Content-Type": "application/json"}) as answer:
            reply = json.load(answer)
        if "error" in reply:
            raise RuntimeError(reply["error"]["data"]["message"])
        return reply["result"]

    def call(self, model, method, *args, **kwargs):
        path = f"/web/dataset/call_kw/{model}/{method}"
        return self.rpc(path, model=model, method=method, args=args, kwargs=kwargs)


class Tab(threading.Thread):
    """Reads one event stream to its end."""

    def __init__(self, browser, path, **form):
        super().__init__(daemon=True)
        self.browser, self.path, self.form = browser, path, form
        self.events, self.status = [], None

    def run(self):
        form = {**self.form, "csrf_token": self.browser.token}
        try:
            with self.browser.open(self.path, urllib.parse.urlencode(form).encode()) as answer:
                self.status = answer.status
                for line in answer:
                    if line.startswith(b"data:"):
                        self.events.append(json.loads(line[5:]))
        except urllib.error.HTTPError as error:
            self.status = error.code
        except (OSError, http.client.HTTPException) as error:
            self.status = type(error).__name__

    @property
    def last(self):
        return self.events[-1]["type"] if self.events else f"status {self.status}"

    @property
    def is_refused(self):
        return bool(self.events) and self.events[0]["type"] == "error"


def main():
    tally = Tally()
    with FaultLab("streams") as lab:
        lab.fake.order(group="slow", delay=DELAY)
        provider = lab.add_provider("slow", "faultchat", max_concurrent_jobs=40)
        people = [f"person{number}" for number in range(USERS)]
        lab.add_users(*people)
        [server] = lab.start_servers(threaded=1, args=(f"--db_maxconn={POOL}",))
        browsers = [Browser(server.url, lab.database, login) for login in people]
        model = lab.rows(f"SELECT id FROM llm_model WHERE provider_id = {provider}")[0]["id"]
        with environment(lab, lab.database) as env:
            counts = env["llm.thread"]._counts_streams()
        # The family's route has a transaction of its own for each answer, to its end.
        in_thread = (3, True) if counts else (ALLOWED, False)
        cases = (
            ("direct", "/llm_generate_job/generate", {"use_queue": 0}, ALLOWED, True),
            ("direct in the thread", "/llm/thread/generate", {}, *in_thread),
            ("followed", "/llm_generate_job/generate", {"use_queue": 1}, ALLOWED, True),
        )
        for name, path, form, *bars in cases:
            since = time.time()
            watch(lab, tally, server, name, browsers, path, form, bars, (provider, model))
        watch_tests(lab, tally, server, provider)
        report(lab, tally, "streams of a slow provider", {"slow": provider}, since=since,
               expected=USERS * ALLOWED, explained=())  # fmt: skip
    return tally.close()


def watch(lab, tally, server, name, browsers, path, form, bars, place):
    """Have each user ask for many answers at once, and look at what is left for others.

    :param bars: the streams that a user may have, and whether none of them holds a transaction
    """
    (allowed, holds_none), (provider, model) = bars, place
    tabs = []
    for browser in browsers:
        values = {"name": "Tab", "provider_id": provider, "model_id": model}
        threads = browser.call("llm.thread", "create", [values] * ASKED)
        tabs += [Tab(browser, path, thread_id=one, message="Hi", **form) for one in threads]
    for tab in tabs:
        tab.start()
        time.sleep(PACE)
    wait_for(lambda: sum(tab.is_refused for tab in tabs) >= USERS * (ASKED - allowed), 30, 0.1)
    time.sleep(1)
    refused = [tab for tab in tabs if tab.is_refused]
    open_now = [tab for tab in tabs if tab.is_alive()]
    step(f"{name}: {len(open_now)} streams are open, {len(refused)} are refused")
    for browser in browsers:
        mine = sum(tab.browser is browser for tab in open_now)
        tally.check(
            mine <= allowed, f"{name}: {browser.login} has {allowed} streams at most", f"{mine}"
        )
    tally.check(bool(open_now), f"{name}: streams are open", "none")
    tally.check(
        len(open_now) + len(refused) == len(tabs),
        f"{name}: each stream is open, or refused with a sentence",
        str({tab.last for tab in tabs if tab not in open_now and tab not in refused}),
    )
    look_around(lab, tally, server, name, browsers, len(open_now), holds_none)
    for tab in tabs:
        tab.join(120)
    ended = {tab.last for tab in open_now}
    tally.check(ended == {"done"}, f"{name}: what was not refused is answered", str(ended))
    wrong = {tab.status for tab in tabs} - {200}
    tally.check(not wrong, f"{name}: no stream ends with an error of HTTP", str(wrong))


def watch_tests(lab, tally, server, provider):
    """Have a manager press Test in several tabs, each of which waits for the provider's word."""
    manager, told = Browser(server.url, lab.database, "admin"), []

    def press():
        told.append(manager.call("llm.provider", "action_test", [provider])["params"])

    begin = time.monotonic()
    tabs = [threading.Thread(target=press) for _tab in range(ALLOWED)]
    for tab in tabs:
        tab.start()
    time.sleep(DELAY / 2)
    [row] = lab.rows(SESSIONS.format(pid=server.process.pid))
    tally.check(not told, "tested: all wait", str(told))
    tally.check(not row["idle"], "tested: no transaction is open while they wait", str(row))
    for tab in tabs:
        tab.join(60)
    fine = [one["is_fine"] for one in told]
    tally.check(fine == [True] * ALLOWED, "tested: each hears a word", str(told))
    step(f"tested: {ALLOWED} at once in {time.monotonic() - begin:.1f} s")


def look_around(lab, tally, server, name, browsers, open_now, holds_none):
    """While all wait: the pool is free, no transaction is open, and others are served."""
    [row] = lab.rows(SESSIONS.format(pid=server.process.pid))
    held = 0 if holds_none else open_now
    tally.check(row["idle"] <= held, f"{name}: no transaction is open while they wait", str(row))
    slowest, errors, lock = [0.0], [], threading.Lock()

    def look(browser):
        begin = time.monotonic()
        try:
            browser.call("res.users", "read", [2], ["name"])
        except (OSError, RuntimeError) as error:
            errors.append(repr(error))
        with lock:
            slowest[0] = max(slowest[0], time.monotonic() - begin)

    others = [threading.Thread(target=look, args=[one]) for one in browsers * (POOL // USERS // 2)]
    for other in others:
        other.start()
    for other in others:
        other.join(60)
    tally.check(not errors, f"{name}: others are served meanwhile", str(errors[:3]))
    tally.check(slowest[0] < QUICK, f"{name}: within {QUICK} s", f"{slowest[0]:.1f} s")
    step(f"{name}: {open_now} open, {row['connections']} connections, {slowest[0]:.2f} s at most")


if __name__ == "__main__":
    run_main(main)
