"""Providers of batches to fail with: they keep what they were given, and a bill.

    python fake_batches.py PORT DESK_PORT

PORT serves `/<group>/v1/files`, `/<group>/v1/batches` and `/<group>/v1/chat/completions`, as OpenAI
does. DESK_PORT tells what happened, by group, and takes orders: `group`, `delay` (seconds, or a
range, before and after each piece of work: there a client may die), and `batch_seconds` (how long
a batch takes, the same). What becomes of a request in a batch is said by how its key begins:
`refused`, `failed`, `undone` and `expired` are that; all others are answered, and all chats are.
"""

import json
import random
import sys
import threading
import time
from email.parser import BytesParser

from fake_book import seconds_of, unmarked
from fake_provider import Handler, Server, openai

ENDS = ("refused", "failed", "undone", "expired")
#: Tokens of each answer.
PROMPT, COMPLETION = 11, 3


class Group:
    """What one account has: files, batches, and what it owes."""

    def __init__(self):
        self.files, self.batches, self.chats, self.order = {}, {}, {}, {}

    def take(self, requests, key, endpoint):
        batch = {
            "id": f"batch_{len(self.batches) + 1}_{random.randrange(16**6):x}",
            "key": key,
            "endpoint": endpoint,
            "requests": requests,
            "ends": time.time() + seconds_of(self.order.get("batch_seconds", 0)),
            "is_cancelled": False,
        }
        self.batches[batch["id"]] = batch
        return batch

    def state_of(self, batch):
        if batch["is_cancelled"]:
            return "cancelled"
        return "completed" if batch["ends"] <= time.time() else "in_progress"

    def outcome(self, batch, prompt):
        if batch["is_cancelled"]:
            return "undone"
        return next((end for end in ENDS if prompt.startswith(end)), "answered")

    def told(self):
        """Return what the desk tells of the account."""
        done = [
            prompt
            for batch in self.batches.values()
            if self.state_of(batch) == "completed"
            for _custom_id, prompt in batch["requests"]
            if self.outcome(batch, prompt) == "answered"
        ]
        return {
            "batches": [
                {"id": one["id"], "key": one["key"], "jobs": [key for _id, key in one["requests"]],
                 "state": self.state_of(one)}
                for one in self.batches.values()
            ],
            "bill": [PROMPT * len(done), COMPLETION * len(done)],
            "answered": done,
            "chats": self.chats,
        }  # fmt: skip


class Desk(Handler):
    def do_GET(self):
        with self.server.lock:
            told = {name: group.told() for name, group in self.server.groups.items()}
        self.answer(200, told)

    def do_POST(self):
        order = self.body()
        with self.server.lock:
            self.server.group(order.pop("group")).order.update(order)
        self.answer(200, {})


class Provider(Handler):
    def raw(self):
        return self.rfile.read(int(self.headers.get("Content-Length") or 0))

    def do_POST(self):
        group, *path = self.place()
        data = self.raw()
        work = {
            ("files",): self.upload,
            ("batches",): self.submit,
            ("chat", "completions"): self.chat,
        }.get(tuple(path), self.cancel)
        self.wait()
        with self.server.lock:
            answer = work(group, path, data)
        self.wait()
        if answer:
            self.answer(*answer)

    def do_GET(self):
        group, *path = self.place()
        self.wait()
        with self.server.lock:
            answer = self.show(group, path)
        self.wait()
        self.answer(*answer)

    def place(self):
        name, _version, *path = self.path.partition("?")[0].strip("/").split("/")
        self.group = self.server.group(name)
        return (self.group, *path)

    def wait(self):
        time.sleep(seconds_of(self.group.order.get("delay")))

    def upload(self, group, _path, data):
        head = f"Content-Type: {self.headers['Content-Type']}\r\n\r\n".encode()
        parts = BytesParser().parsebytes(head + data).get_payload()
        (content,) = [part.get_payload(decode=True) for part in parts if part.get_filename()]
        file_id = f"file-{len(group.files) + 1}"
        group.files[file_id] = content
        return 200, {"id": file_id}

    def submit(self, group, _path, data):
        asked = json.loads(data)
        lines = [json.loads(line) for line in group.files[asked["input_file_id"]].splitlines()]
        requests = [
            (line["custom_id"], unmarked(line["body"]["messages"][-1]["content"])) for line in lines
        ]
        key = asked["metadata"]["llm_generation_key"]
        return 200, self.shown(group, group.take(requests, key, asked["endpoint"]))

    def cancel(self, group, path, _data):
        batch = group.batches[path[1]]
        if group.state_of(batch) != "in_progress":
            return 409, {"error": {"message": "It has ended."}}
        batch["is_cancelled"] = True
        return 200, self.shown(group, batch)

    def chat(self, group, _path, data):
        body = json.loads(data)
        key = unmarked(body["messages"][-1]["content"])
        group.chats[key] = group.chats.get(key, 0) + 1
        self.head(200, "text/event-stream")
        words = f"Answer to {key}"
        for one in (openai(words), openai(finish_reason="stop"), "data: [DONE]\n\n"):
            self.wfile.write(one.encode())

    def show(self, group, path):
        if path[0] == "files":
            kind, batch_id = path[1].split("-", 1)
            return 200, self.lines(group, group.batches[batch_id], kind)
        if path[1:]:
            return 200, self.shown(group, group.batches[path[1]])
        return 200, {"data": [self.shown(group, one) for one in reversed(group.batches.values())]}

    def shown(self, group, batch):
        state = group.state_of(batch)
        over = state != "in_progress"
        return {
            "id": batch["id"],
            "status": state,
            "metadata": {"llm_generation_key": batch["key"]},
            "request_counts": {"total": len(batch["requests"]), "completed": 0, "failed": 0},
            "output_file_id": f"output-{batch['id']}" if over else None,
            "error_file_id": f"errors-{batch['id']}" if over else None,
        }

    def lines(self, group, batch, kind):
        lines = []
        for custom_id, prompt in batch["requests"]:
            outcome = group.outcome(batch, prompt)
            if (outcome == "answered") == (kind == "output"):
                lines.append({"custom_id": custom_id, **self.line(outcome, prompt)})
        random.shuffle(lines)
        return "".join(json.dumps(line) + "\n" for line in lines).encode()

    @staticmethod
    def line(outcome, prompt):
        if outcome in {"undone", "expired"}:
            return {
                "error": {"code": "batch_cancelled" if outcome == "undone" else "batch_expired"}
            }
        if outcome == "answered":
            message = {"role": "assistant", "content": f"Answer to {prompt}"}
            usage = {"prompt_tokens": PROMPT, "completion_tokens": COMPLETION}
            body = {"choices": [{"message": message, "finish_reason": "stop"}], "usage": usage}
            return {"response": {"status_code": 200, "body": body}}
        status = 400 if outcome == "refused" else 500
        return {"response": {"status_code": status, "body": {"error": {"message": "It broke."}}}}


def main(port, desk_port):
    lock, groups = threading.RLock(), {}
    servers = [Server(("127.0.0.1", each), kind)
               for each, kind in ((port, Provider), (desk_port, Desk))]  # fmt: skip
    for server in servers:
        server.lock, server.groups = lock, groups
        server.group = lambda name: groups.setdefault(name, Group())
    threading.Thread(target=servers[0].serve_forever, args=(0.05,), daemon=True).start()
    servers[1].serve_forever()


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
