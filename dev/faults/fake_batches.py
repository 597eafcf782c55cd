"""Providers of batches to fail with: they keep what they were given, and a bill.

    python fake_batches.py PORT DESK_PORT

PORT serves `/<group>/v1/files`, `/<group>/v1/batches` and `/<group>/v1/chat/completions`, as OpenAI
does; without files, and with the requests in the batch, as OpenRouter does, to a group whose name
begins with `router`; with Google's files and list at the root of the host, and batches begun at
`/<group>/v1beta/openai`, to one whose name begins with `gemini`; and
`/<group>/v1/messages/batches`, as Anthropic does. DESK_PORT tells what happened, by group, and
takes orders: `group`, `delay` (seconds, or a range, before and after each piece of work: there a
client may die), `batch_seconds` (how long a batch takes, the same), and `cancels` (whether one can
be cancelled). What becomes of a request in a batch is said by how its key begins: `refused`,
`failed`, `undone` and `expired` are that; all others are answered, and all chats are.
"""

import json
import random
import sys
import threading
import time
from datetime import UTC, datetime
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
            "made": time.time(),
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
            ("messages", "batches"): self.submit_messages,
            ("v1beta", "files"): self.upload_google,
            ("openai", "batches"): self.submit,
            ("openai", "chat", "completions"): self.chat,
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

    def do_DELETE(self):
        self.place()
        self.answer(200, {"deleted": True})

    def place(self):
        name, _version, *path = self.path.partition("?")[0].strip("/").split("/")
        self.group, self.is_router = self.server.group(name), name.startswith("router")
        self.is_google = name.startswith("gemini")
        return (self.group, *path)

    def wait(self):
        time.sleep(seconds_of(self.group.order.get("delay")))

    def upload(self, group, _path, data):
        if self.is_router:
            return 404, {"error": {"message": "There are no files here.", "code": 404}}
        parts = self.parts(data)
        (content,) = [part.get_payload(decode=True) for part in parts if part.get_filename()]
        file_id = f"file-{len(group.files) + 1}"
        group.files[file_id] = content
        return 200, {"id": file_id}

    def submit(self, group, _path, data):
        asked = json.loads(data)
        if self.is_google:
            return self.submit_google(group, asked["input_file_id"], asked["endpoint"])
        if self.is_router:
            return 202, self.shown(group, self.take(group, asked["requests"], "body"))
        requests = self.requests_of(group.files[asked["input_file_id"]])
        key = asked["metadata"]["llm_generation_key"]
        return 200, self.shown(group, group.take(requests, key, asked["endpoint"]))

    @staticmethod
    def requests_of(content):
        return [
            (line["custom_id"], unmarked(line["body"]["messages"][-1]["content"]))
            for line in map(json.loads, content.splitlines())
        ]

    def upload_google(self, group, _path, data):
        head, content = self.parts(data)
        name = json.loads(head.get_payload(decode=True))["file"]["name"]
        if name in group.files:
            return 409, {"error": {"message": "It exists.", "status": "ALREADY_EXISTS"}}
        group.files[name] = content.get_payload(decode=True)
        return 200, {"file": {"name": name}}

    def submit_google(self, group, name, endpoint):
        key = name.removeprefix("files/").partition("-")[0]
        batch = group.take(self.requests_of(group.files[name]), key, endpoint)
        batch["file"] = name
        return 200, {"id": f"batches/{batch['id']}", "status": "validating"}

    def parts(self, data):
        head = f"Content-Type: {self.headers['Content-Type']}\r\n\r\n".encode()
        return BytesParser().parsebytes(head + data).get_payload()

    def submit_messages(self, group, _path, data):
        batch = self.take(group, json.loads(data)["requests"], "params")
        return 200, self.shown_messages(group, batch)

    def take(self, group, requests, name):
        """Take a batch that has no name: the desk knows it by its requests."""
        asked = [
            (one["custom_id"], unmarked(one[name]["messages"][-1]["content"])) for one in requests
        ]
        return group.take(asked, asked[0][0].partition("-")[0], None)

    def cancel(self, group, path, _data):
        external = path[-1].removesuffix(":cancel") if self.is_google else path[-2]
        batch = group.batches[external]
        if group.state_of(batch) != "in_progress" or not group.order.get("cancels", True):
            return 409, {"error": {"message": "It has ended."}}
        batch["is_cancelled"] = True
        if self.is_google:
            return 200, {}
        show = self.shown_messages if path[0] == "messages" else self.shown
        return 200, show(group, batch)

    def chat(self, group, _path, data):
        body = json.loads(data)
        key = unmarked(body["messages"][-1]["content"])
        group.chats[key] = group.chats.get(key, 0) + 1
        self.head(200, "text/event-stream")
        words = f"Answer to {key}"
        for one in (openai(words), openai(finish_reason="stop"), "data: [DONE]\n\n"):
            self.wfile.write(one.encode())

    def show(self, group, path):
        if path[0] == "messages":
            return self.show_messages(group, path[2:])
        if self.is_google:
            return self.show_google(group, path)
        if path[0] == "files":
            kind, batch_id = path[1].split("-", 1)
            return 200, self.lines(group, group.batches[batch_id], kind)
        if path[1:]:
            batch = group.batches[path[1]]
            told = {"results": self.results(group, batch)} if self.is_router else {}
            return 200, {**self.shown(group, batch), **told}
        return 200, {"data": [self.shown(group, one) for one in reversed(group.batches.values())]}

    def show_google(self, group, path):
        if path[0] == "v1beta":  # of /download/
            external = path[2].removesuffix(":download").removeprefix("results-")
            lines = self.results(group, group.batches[external])
            return 200, self.text([one for one in lines if "response" in one])
        if path[1:]:
            return 200, self.shown_google(group, group.batches[path[1]])
        operations = [self.shown_google(group, one) for one in group.batches.values()]
        return 200, {"operations": operations} if operations else {}

    def shown_google(self, group, batch):
        names = {"in_progress": "RUNNING", "completed": "SUCCEEDED", "cancelled": "CANCELLED"}
        state = group.state_of(batch)
        results = {"responsesFile": f"files/results-{batch['id']}"}
        told = {
            "state": f"BATCH_STATE_{names[state]}",
            "batchStats": {"requestCount": str(len(batch["requests"]))},
            "inputConfig": {"fileName": batch["file"]},
            **({"output": results} if state == "completed" else {}),
        }
        return {"name": f"batches/{batch['id']}", "metadata": told}

    def shown(self, group, batch):
        state = group.state_of(batch)
        over = state != "in_progress"
        counts = {"total": len(batch["requests"]), "completed": 0, "failed": 0}
        if self.is_router:
            made = int(batch["made"])
            return {"id": batch["id"], "status": state, "request_counts": counts,
                    "created_at": made, "results": None}  # fmt: skip
        return {
            "id": batch["id"],
            "status": state,
            "metadata": {"llm_generation_key": batch["key"]},
            "request_counts": counts,
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
        return self.text(lines)

    @staticmethod
    def text(lines):
        return "".join(json.dumps(line) + "\n" for line in lines).encode()

    def results(self, group, batch):
        if group.state_of(batch) == "in_progress":
            return None
        lines = [
            {"custom_id": custom_id, **self.line(group.outcome(batch, prompt), prompt)}
            for custom_id, prompt in batch["requests"]
        ]
        random.shuffle(lines)
        return lines

    def show_messages(self, group, path):
        if not path:
            shown = [self.shown_messages(group, one) for one in reversed(group.batches.values())]
            return 200, {"data": shown, "has_more": False}
        batch = group.batches[path[0]]
        if path[1:] == ["results"]:
            lines = [
                {
                    "custom_id": custom_id,
                    "result": self.message(group.outcome(batch, prompt), prompt),
                }
                for custom_id, prompt in batch["requests"]
            ]
            random.shuffle(lines)
            return 200, self.text(lines)
        return 200, self.shown_messages(group, batch)

    def shown_messages(self, group, batch):
        over, total = group.state_of(batch) != "in_progress", len(batch["requests"])
        return {
            "id": batch["id"],
            "processing_status": "ended" if over else "in_progress",
            "request_counts": {"processing": 0 if over else total, "succeeded": total * over},
            "created_at": datetime.fromtimestamp(batch["made"], UTC).isoformat(),
        }

    @staticmethod
    def message(outcome, prompt):
        if outcome in {"undone", "expired"}:
            return {"type": "canceled" if outcome == "undone" else "expired"}
        if outcome == "answered":
            text = [{"type": "text", "text": f"Answer to {prompt}"}]
            usage = {"input_tokens": PROMPT, "output_tokens": COMPLETION}
            message = {"content": text, "stop_reason": "end_turn", "usage": usage}
            return {"type": "succeeded", "message": message}
        kind = "invalid_request_error" if outcome == "refused" else "api_error"
        told = {"type": kind, "message": "It broke."}
        return {"type": "errored", "error": {"type": "error", "error": told}}

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
