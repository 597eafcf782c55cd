"""Fifty chats wait on a server of two HTTP workers: pages open as ever, the bus tells the rest."""

import contextlib
import json
import re
import socket
import threading
import time
from statistics import median

import websocket
from evidence import check_completed, log_tails
from fault_lab import FaultLab
from lib.client import Client
from lib.processes import wait_for
from lib.say import run_main, step
from lib.tally import Tally
from weather_table import report

#: Holds something to a bar in seconds.
QUIET = True
USERS, CHATS = 10, 5
#: Seconds between two questions: without a proxy before it, Odoo refuses more than 16 at once.
PACE = 0.2
#: Seconds between two looks of a page at what waits, and at what is being written.
LOOKS = {"queued": 5.0, "running": 1.0}
UPDATE = "llm.generation.job/update"
LIMIT, DELAY = 5, 2
#: What a page takes at most of its time without them; less than so many seconds is noise. While
#: they are answered the processor has more to do: a worker that one of them held would be busy for
#: as long as its answer takes.
BAR, NOISE = 1.5, 0.15
OPENED = 15
#: What the chats cost they cost all the time they wait; the rush of a script beside this one ends.
LOOKS_AT_MOST = 4


class Browser:
    """A user who is logged in, and hears the bus."""

    def __init__(self, server, database, login):
        self.login = login
        self.client = Client(server.url, database, login, login)
        page = self.client.opener.open(f"{server.url}/odoo", timeout=60).read().decode()
        version = re.search(r'"websocket_worker_version": "([^"]*)"', page)[1]
        self.socket = websocket.create_connection(
            f"ws://127.0.0.1:{server.gevent_port}/websocket?version={version}",
            cookie=f"session_id={self.client.session}",
            origin=server.url,
            timeout=120,
        )
        self.socket.send(
            json.dumps({"event_name": "subscribe", "data": {"channels": [], "last": 0}})
        )
        self.told, self.news = {}, threading.Condition()
        threading.Thread(target=self._listen, daemon=True).start()

    def _listen(self):
        # It ends with the server: the socket says so by an error.
        with contextlib.suppress(websocket.WebSocketException):
            self._hear()

    def _hear(self):
        while text := self.socket.recv():
            updates = [one["message"] for one in json.loads(text)]
            with self.news:
                for message in updates:
                    if message["type"] == UPDATE:
                        self.told |= {job["id"]: job["state"] for job in message["payload"]}
                self.news.notify_all()


class Chat(threading.Thread):
    """A page that asked, and waits as ours do: it looks when the bus tells of it, or at times."""

    def __init__(self, browser, thread_id):
        super().__init__(daemon=True)
        self.browser, self.thread_id = browser, thread_id
        self.positions, self.job = [], None

    def run(self):
        call = self.browser.client.call
        ids = [self.thread_id]
        news = call("llm.thread", "ask_in_queue", ids, message=f"Chat {ids[0]}?", use_queue=True)
        while (job := news["job"]) and job["state"] in LOOKS:
            self.job = job
            self.positions.append(job["queue_position"])
            with self.browser.news:
                self.browser.news.wait_for(self.is_told, LOOKS[job["state"]])
            news = call("llm.thread", "get_generation_news", ids)
        self.job = job

    def is_told(self):
        return self.browser.told.get(self.job["id"], self.job["state"]) != self.job["state"]


def main():
    tally = Tally()
    with FaultLab("waiting-chats") as lab:
        lab.fake.order(group="chats", delay=DELAY, pieces=20)
        provider = lab.add_provider("chats", "openai", max_concurrent_jobs=LIMIT)
        logins = [f"person{number}" for number in range(USERS)]
        lab.add_users(*logins)
        [server] = lab.start_servers(prefork=1)
        lab.set_queue(provider, enabled=False)
        hears = wait_for(lambda: is_open(server.gevent_port), 60, 0.2)
        tally.check(hears, "the bus is up", log_tails([server]))
        browsers = [Browser(server, lab.database, login) for login in logins]
        usual = opens_in(browsers[0], server)
        chats = [Chat(browser, thread) for browser in browsers for thread in threads(lab, browser)]
        for chat in chats:
            chat.start()
            time.sleep(PACE)
        asked = wait_for(lambda: all(chat.positions for chat in chats), 60, 0.1)
        tally.check(asked, f"{len(chats)} chats wait", log_tails([server]))
        for _look in range(LOOKS_AT_MOST):
            now = opens_in(browsers[0], server)
            if quick := now < BAR * usual + NOISE:
                break
        step(f"they wait: a page opens in {now:.3f} s, {usual:.3f} s without them")
        tally.check(quick, f"a page opens in {BAR} times as long at most", f"{now:.3f} s")
        told = {chat.positions[-1] for chat in chats if chat.positions}
        tally.check(min(told, default=0) > 0, "each is told its position", f"{sorted(told)}")
        since = time.time()
        lab.set_queue(provider, enabled=True)
        wait_for(lambda: len(lab.fake.calls("chats")) >= LIMIT, 30, 0.1)
        now = opens_in(browsers[0], server)
        step(f"they are answered: a page opens in {now:.3f} s")
        tally.check(now < DELAY, "no worker is held while they are answered", f"{now:.3f} s")
        for chat in chats:
            chat.join(120)
        report(lab, tally, "50 chats wait, two HTTP workers", {"chats": provider}, since=since,
               expected=len(chats), explained=())  # fmt: skip
        check_completed(lab, tally, lab.jobs(provider))
        states = [chat.job and chat.job["state"] for chat in chats]
        tally.check(set(states) == {"completed"}, "each page has its answer", f"{states}")
        deaf = [
            chat
            for chat in chats
            if not chat.job or chat.browser.told.get(chat.job["id"]) != chat.job["state"]
        ]
        tally.check(not deaf, "the bus told each of its answer", f"{len(deaf)} heard nothing")
    return tally.close()


def is_open(port):
    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
        return True
    return False


def threads(lab, browser):
    """Return the ids of new threads of a user."""
    [model] = lab.rows("SELECT m.id, provider_id FROM llm_model m JOIN llm_provider p"
                       " ON p.id = m.provider_id WHERE p.name = 'chats'")  # fmt: skip
    values = {"name": "A talk", "provider_id": model["provider_id"], "model_id": model["id"]}
    return browser.client.call("llm.thread", "create", [values] * CHATS)


def opens_in(browser, server):
    """Return the median of the seconds that a page takes: its document, and a list in it."""
    took = []
    for _number in range(OPENED):
        begin = time.monotonic()
        browser.client.opener.open(f"{server.url}/odoo", timeout=60).read()
        browser.client.call("llm.thread", "web_search_read", [], {"name": {}}, limit=80)
        took.append(time.monotonic() - begin)
        time.sleep(0.2)
    return median(took)


if __name__ == "__main__":
    run_main(main)
