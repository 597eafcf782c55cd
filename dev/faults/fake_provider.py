"""A provider to fail with: chat completions and jobs over HTTP, faults to order, every call noted.

    python fake_provider.py PORT DESK_PORT

PORT serves `/<group>/v1/chat/completions`, as OpenAI does, `/<group>/api/chat`, as Ollama, and
`/v1/messages`, as Anthropic, whose group is told by the model; `/<group>/jobs` is a job interface.
DESK_PORT takes orders and tells what happened; it stays when the provider is "down". An order is
a dict: `group` and `match` (the start of a call's key) say which calls it is for, `times` for how
many of them, `lasts` for how many seconds from the first of them on; `delay` (seconds, or a
range), `job_seconds`, `fault`, `status`, `retry_after`, `late_headers`, `late_body`, `pieces` and
`finish_reason` say what these calls get, `check_seconds`, `cancel_delay` and `cancel_status` what
who asks about a job or cancels it gets; with the fault `within` they get a success whose body, or
stream, is the `error` of the order. Newer orders go first. `rounds` has tools called in that many
rounds, three each, before the answer; what was told of them is in the last call as `told`.
"""

import contextlib
import json
import random
import select
import socket
import struct
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from fake_book import Book, is_live, key_of, seconds_of, unmarked

#: Seconds that a call hangs for at most.
FOREVER = 600
#: Tools that are called in a round.
CALLS = 3


def event(values, name=None):
    """Return an event of a stream."""
    return f"event: {name}\n" * bool(name) + f"data: {json.dumps(values)}\n\n"


def openai(content=None, finish_reason=None, **delta):
    if content:
        delta["content"] = content
    choice = {"index": 0, "delta": delta, "finish_reason": finish_reason}
    return event({"choices": [choice]})


def anthropic(kind, **values):
    return event({"type": kind, **values}, kind)


def ollama(content="", **values):
    said = {"role": "assistant", "content": content}
    return json.dumps({"model": "m", "message": said, "done": False, **values}) + "\n"


MESSAGE = {"id": "m", "type": "message", "role": "assistant", "model": "m", "content": []}
TOLD = {"input_tokens": 1, "output_tokens": 1}
#: How a stream begins, brings a word, and ends, by the end of the address.
DIALECTS = {
    "completions": ((), openai, (openai(finish_reason="stop"), "data: [DONE]\n\n")),
    "chat": ((), ollama, (ollama(done=True, done_reason="stop"),)),
    "messages": (
        (
            anthropic("message_start", message={**MESSAGE, "usage": TOLD}),
            anthropic("content_block_start", index=0, content_block={"type": "text", "text": ""}),
        ),
        lambda text: anthropic(
            "content_block_delta", index=0, delta={"type": "text_delta", "text": text}
        ),
        (
            anthropic("content_block_stop", index=0),
            anthropic("message_delta", delta={"stop_reason": "end_turn"}, usage=TOLD),
            anthropic("message_stop"),
        ),
    ),
}


class Handler(BaseHTTPRequestHandler):
    def log_message(self, *_args):
        """Say nothing: the book has it all."""

    def body(self):
        return json.loads(self.rfile.read(int(self.headers.get("Content-Length") or 0)) or b"{}")

    def answer(self, status, values, **headers):
        data = values if isinstance(values, bytes) else json.dumps(values).encode()
        self.head(status, "application/json", **{"Content-Length": str(len(data)), **headers})
        self.wfile.write(data)

    def head(self, status, content_type, **headers):
        self.send_response(status)
        for name, value in {"Content-Type": content_type, "Connection": "close", **headers}.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        self.close_connection = True


class Desk(Handler):
    """Takes orders and answers questions; not part of what is faked."""

    def do_GET(self):
        book = self.server.book
        with book.lock:
            self.answer(200, {"calls": book.calls, "most": book.most})

    def do_POST(self):
        book, values = self.server.book, self.body()
        if self.path == "/order":
            with book.lock:
                book.orders.append(values)
        elif self.path == "/forget":
            book.forget()
        elif self.path == "/down":
            self.server.provider.close()
        elif self.path == "/up":
            self.server.provider.open()
        self.answer(200, {})


class Provider(Handler):
    """What Odoo talks to."""

    def do_POST(self):
        group, *path = self.path.strip("/").split("/")
        body = self.body()
        if path == ["jobs"]:
            self.serve(group, "create", unmarked(body["key"]), self.submit, body)
        else:
            self.dialect = DIALECTS[path[-1]]
            if path[-1] == "messages":
                group = body["model"].removesuffix("-model")
            self.serve(group, "chat", key_of(body["messages"]), self.chat, body)

    def do_GET(self):
        job = self.find_job("check")
        if job:
            self.stay(self.order_of(job).get("check_seconds", 0))
            ended = job["ends"] <= time.time()
            state = "cancelled" if job["cancelled"] else "completed" if ended else "running"
            self.answer(200, {"id": job["id"], "state": state, "text": f"Answer to {job['key']}"})

    def do_DELETE(self):
        group, _jobs, job_id = self.path.strip("/").split("/")
        job = self.server.book.jobs.get(job_id, {"key": ""})
        order = self.server.book.order_for({"group": group, "key": job["key"], "at": time.time()})
        try:
            self.stay(seconds_of(order.get("cancel_delay")))
        except OSError:
            return
        if status := order.get("cancel_status"):
            self.answer(status, {"error": {"message": "ordered"}})
            return
        job = self.find_job("cancel")
        if job:
            live = is_live(job, time.time())
            job["cancelled"] = live
            self.answer(200, {"cancelled": live})

    def order_of(self, job):
        return self.server.book.order_for(job)

    def find_job(self, kind):
        group, _jobs, job_id = self.path.strip("/").split("/")
        job = self.server.book.jobs.get(job_id)
        call = self.server.book.open(group, kind, job["key"] if job else "")
        self.server.book.close(call, "ok" if job else "404")
        if not job:
            self.answer(404, {"error": {"message": "no such job"}})
        return job

    def serve(self, group, kind, key, work, body):
        """Note the call, and do what is ordered for it."""
        book = self.server.book
        call = book.open(group, kind, key)
        order = book.order_for(call)
        call["order"] = order.get("fault") or ""
        try:
            faults = {
                "status": self.refuse,
                "reset": self.reset,
                "garbage": self.garbage,
                "within": self.err_within,
            }
            work = faults.get(order.get("fault"), work)
            work(call, order, body)
        except OSError:
            book.close(call, "hung up")
        finally:
            if call["outcome"] == "open":
                book.close(call, "broken")

    def end(self, call, outcome, job=None):
        # Before the last bytes: whoever gets them may ask again at once.
        self.server.book.close(call, outcome, job)

    # === FAULTS === #

    def refuse(self, call, order, _body):
        status = order.get("status", 500)
        headers = {}
        if order.get("retry_after"):
            headers["Retry_After"] = str(order["retry_after"])
        self.stay(seconds_of(order.get("delay")))
        self.end(call, str(status))
        # As some services do, it repeats the key.
        message = f"status {status} was ordered for {self.headers.get('Authorization')}"
        self.answer(status, {"error": {"message": message}}, **headers)

    def reset(self, call, _order, _body):
        self.end(call, "reset")
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.connection.close()

    def garbage(self, call, _order, _body):
        self.end(call, "garbage")
        self.answer(200, b"<html>this is no JSON")

    def err_within(self, call, order, body):
        self.end(call, "error within a success")
        error = order.get("error") or {"error": {"code": order.get("status", 500)}}
        if body.get("stream"):
            self.head(200, "text/event-stream")
            self.wfile.write(f"data: {json.dumps(error)}\n\n".encode())
        else:
            self.answer(200, error)

    def stay(self, seconds):
        """Wait; raise at once when the client hangs up."""
        deadline = time.monotonic() + seconds
        while (left := deadline - time.monotonic()) > 0:
            if select.select([self.connection], [], [], left)[0]:
                if not self.connection.recv(1, socket.MSG_PEEK):
                    raise ConnectionResetError
                time.sleep(min(left, 0.05))  # more of the request, which nobody reads

    # === ANSWERS === #

    def submit(self, call, order, _body):
        if order.get("late_body"):
            self.head(200, "application/json")
            self.wfile.write(b"{")
        self.stay(FOREVER if order.get("fault") == "hang" else seconds_of(order.get("delay")))
        if order.get("late_body"):
            self.end(call, "ok")
            self.wfile.write(b'"state": "completed", "text": "Answer"}')
            return
        seconds = order.get("job_seconds")
        if seconds is None:  # done already
            self.end(call, "ok")
            self.answer(200, {"state": "completed", "text": f"Answer to {call['key']}"})
            return
        job = {
            "id": f"fake-{len(self.server.book.jobs)}-{random.randrange(16**6):x}",
            "group": call["group"],
            "key": call["key"],
            "ends": time.time() + seconds_of(seconds),
            "cancelled": False,
        }
        self.end(call, "ok", job)
        self.answer(200, {"id": job["id"], "state": "running"})

    def chat(self, call, order, body):
        if order.get("late_headers") or not body.get("stream"):
            self.stay(FOREVER if order.get("fault") == "hang" else seconds_of(order.get("delay")))
        if order.get("rounds"):
            self.call_tools(call, order, body)
            return
        if body.get("stream"):
            self.stream(call, order)
            return
        self.end(call, "ok")
        message = {"role": "assistant", "content": f"Answer to {call['key']}"}
        reason = order.get("finish_reason", "stop")
        self.answer(200, {"choices": [{"message": message, "finish_reason": reason}]})

    def stream(self, call, order):
        # Services announce the end of a stream, so that one that breaks off is no whole answer.
        length = {"Content_Length": "1000000"} if order.get("fault") == "half" else {}
        self.head(200, "text/event-stream", **length)
        begin, word, end = self.dialect
        if order.get("fault") == "hang":
            self.stay(FOREVER)
        words = f"Answer to {call['key']}".split()
        pieces = order.get("pieces", 1)
        self.send(*begin)
        delay = 0 if order.get("late_headers") else seconds_of(order.get("delay"))
        for number in range(pieces):
            self.stay(delay / pieces)
            if order.get("fault") == "half" and number >= pieces // 2:
                self.end(call, "half")
                return
            self.send(word(" ".join(words) if not number else f" {number}"))
        self.end(call, "ok")
        if reason := order.get("finish_reason"):  # of this dialect only
            end = (openai(finish_reason=reason), "data: [DONE]\n\n")
        self.send(*end)

    def call_tools(self, call, order, body):
        """Stream the calls of the next round, or the answer after the last."""
        turns = [message for message in body["messages"] if message.get("tool_calls")]
        if len(turns) >= order["rounds"]:
            call["told"] = told_of(body["messages"])
            self.stream(call, order)
            return
        self.head(200, "text/event-stream")
        key = call["key"].split(" round ")[0]
        for number in range(CALLS):
            self.stay(seconds_of(order.get("delay")) / CALLS)
            arguments = json.dumps({"key": f"{key} {len(turns) + 1}.{number}"})
            function = {"name": "note", "arguments": ""}
            head = {"id": f"call{len(turns)}{number:04}", "type": "function", "function": function}
            self.send(openai(tool_calls=[{"index": number, **head}]))
            for piece in (arguments[:5], arguments[5:]):
                delta = {"index": number, "function": {"arguments": piece}}
                self.send(openai(tool_calls=[delta]))
        self.end(call, "ok")
        self.send(openai(finish_reason="tool_calls"), "data: [DONE]\n\n")

    def send(self, *events):
        self.wfile.write("".join(events).encode())
        self.wfile.flush()


def told_of(messages):
    """Return what a model was told of the tools that it called, by the keys that it gave them."""
    keys, told = {}, {}
    for message in messages:
        for call in message.get("tool_calls") or ():
            keys[call["id"]] = json.loads(call["function"]["arguments"])["key"]
        if message["role"] == "tool":
            told.setdefault(keys[message["tool_call_id"]], []).append(message["content"])
    return told


class Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 256
    book = provider = None

    def __init__(self, *args):
        super().__init__(*args)
        self.connections = set()

    def finish_request(self, request, client_address):
        self.connections.add(request)
        try:
            return super().finish_request(request, client_address)
        finally:
            self.connections.discard(request)

    def handle_error(self, request, client_address):
        """Say nothing: clients that vanish are what this is for."""


class Switch:
    """The provider's port, which can be closed and opened again."""

    def __init__(self, port, book):
        self.port, self.book = port, book
        self.server = None

    def open(self):
        self.server = Server(("127.0.0.1", self.port), Provider)
        self.server.book = self.book
        threading.Thread(target=self.server.serve_forever, args=(0.05,), daemon=True).start()

    def close(self):
        """Refuse connections, and cut those that are open."""
        self.server.shutdown()
        self.server.server_close()
        for connection in list(self.server.connections):
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)


def main(port, desk_port):
    book = Book()
    switch = Switch(port, book)
    switch.open()
    desk = Server(("127.0.0.1", desk_port), Desk)
    desk.book, desk.provider = book, switch
    desk.serve_forever()


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
