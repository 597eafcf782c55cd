"""What the fake provider remembers: orders, calls, and how much went on at once."""

import random
import threading
import time

#: In every prompt and key of a fault script; `dev/lib/marks.py` looks where they end up.
PROMPT_MARK, KEY_MARK = "canary-prompt-fault", "canary-key-fault"


class Book:
    """What was asked, how it went, how much went on at once, and the orders."""

    def __init__(self):
        self.lock = threading.Lock()
        self.calls, self.orders, self.jobs = [], [], {}
        self.most = {}

    def forget(self):
        with self.lock:
            self.calls, self.most = [], {}

    def open(self, group, kind, key):
        """Note a call; those that make the provider work count until they are closed."""
        call = {"group": group, "kind": kind, "key": key, "at": time.time(), "outcome": "open"}
        with self.lock:
            self.calls.append(call)
            if kind in {"chat", "create"}:
                call["works"] = True
                self.most[group] = max(self.most.get(group, 0), self._at_work(group))
        return call

    def close(self, call, outcome, job=None):
        with self.lock:
            call.update(outcome=outcome, until=time.time(), works=False)
            if job:
                self.jobs[job["id"]] = job

    def _at_work(self, group):
        now = time.time()
        calls = sum(bool(call.get("works")) for call in self.calls if call["group"] == group)
        jobs = [job for job in self.jobs.values() if job["group"] == group]
        return calls + sum(is_live(job, now) for job in jobs)

    def order_for(self, call):
        with self.lock:
            for order in reversed(self.orders):
                fits = order.get("group") in {None, call["group"]}
                if fits and call["key"].startswith(order.get("match", "")):
                    if "lasts" in order:
                        ends = order.setdefault("ends", call["at"] + order["lasts"])
                        if call["at"] > ends:
                            continue
                    if "times" in order:
                        order["times"] -= 1
                        if order["times"] <= 0:
                            self.orders.remove(order)
                    return order
        return {}


def is_live(job, now):
    return not job["cancelled"] and job["ends"] > now


def key_of(messages):
    """Return the text of the last question, and which round of tools is asked for, if any was."""
    rounds = 0
    for message in reversed(messages):
        rounds += bool(message.get("tool_calls"))
        if message.get("role") == "user":
            content = message["content"]
            if isinstance(content, list):
                content = "".join(part.get("text", "") for part in content)
            return unmarked(content) + (f" round {rounds + 1}" if rounds else "")
    return ""


def marked(key):
    """Return the prompt of a job's key."""
    return f"{key} {PROMPT_MARK}"


def unmarked(prompt):
    """Return the key of a job's prompt."""
    return prompt.replace(PROMPT_MARK, "").strip()


def seconds_of(value):
    return random.uniform(*value) if isinstance(value, list) else float(value or 0)
