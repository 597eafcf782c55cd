"""A provider's HTTP side on loopback, whose faults come to order.

A subclass of `FakeHttpService` answers requests as its documentation says. A test orders faults
with `fault()`: each meets one request, in turn, and then all is well again.
"""

import functools
import json
import socket
import struct
import sys
import threading
import time
import zlib
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, urlsplit

GARBAGE = b"<html>\x00\xff Welcome to the hotel's network"
#: What each meaning of `exceptions.py` looks like in HTTP.
STATUS_OF = {
    "rate_limited": 429,
    "overloaded": 503,
    "transient": 500,
    "quota": 402,
    "authentication": 401,
    "bad_request": 400,
}


@dataclass
class Request:
    """What a client sent; the names of headers are in lower case."""

    method: str
    path: str
    query: dict
    headers: dict
    body: bytes

    @property
    def json(self):
        return json.loads(self.body) if self.body else None


@dataclass
class Reply:
    """What a service answers; with `chunks` they are sent one by one."""

    status: int = 200
    body: bytes = b""
    content_type: str = "application/json"
    headers: dict = field(default_factory=dict)
    chunks: list = None


def json_reply(body, status=200, **headers):
    """Return a reply with a JSON body."""
    headers = {name.replace("_", "-"): value for name, value in headers.items()}
    return Reply(status, json.dumps(body).encode(), headers=headers)


# === FAULTS: functions of the handler and of the reply that would have come === #


def error(meaning, retry_after=None, text="It went wrong.", code=None):
    """Return the fault that says, in HTTP, what an exception of `exceptions.py` means."""
    if meaning == "unknown_outcome":
        return bodiless
    body = {"error": {"message": text, "code": code}, "detail": text}
    headers = {"Retry-After": str(retry_after)} if retry_after else {}
    reply = Reply(STATUS_OF[meaning], json.dumps(body).encode(), headers=headers)

    def fault(handler, _reply):
        handler.send_reply(reply)

    fault.refuses = True
    return fault


def refusal(status, body, **headers):
    """Return the fault of a service that refuses a request in words of its own.

    :param body: what becomes its JSON
    """
    reply = json_reply(body, status, **headers)

    def fault(handler, _reply):
        handler.send_reply(reply)

    fault.refuses = True
    return fault


def latency(seconds):
    """Return the fault of a good answer that takes its time."""

    def fault(handler, reply):
        time.sleep(seconds)
        handler.send_reply(reply)

    return fault


def hang(handler, _reply):
    """Say nothing, for longer than any client of a test waits."""
    handler.server.ended.wait(30)
    handler.close_connection = True


def reset(handler, _reply):
    """Take the request, and cut the connection hard."""
    linger = struct.pack("ii", 1, 0)
    handler.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
    handler.connection.close()
    handler.close_connection = True


def bodiless(handler, reply):
    """Begin to answer, and hang up before the first byte of the body."""
    handler.send_reply(reply, part=0.0)


def garbage(handler, _reply):
    """Answer with success, and something else than was asked for."""
    handler.send_reply(Reply(200, GARBAGE, "text/html"))


def instead(reply):
    """Return the fault that answers with something else: an error within a success, a redirect."""

    def fault(handler, _reply):
        handler.send_reply(reply)

    fault.refuses = True
    return fault


def half(handler, reply):
    """Send the first half of the answer, and hang up."""
    handler.send_reply(reply, part=0.5)


@functools.cache
def compressed_zeros(megabytes):
    """Return so many megabytes of zeros, compressed by gzip to a thousandth."""
    packer = zlib.compressobj(1, wbits=31)
    zeros = bytes(1_000_000)
    return b"".join([*(packer.compress(zeros) for _one in range(megabytes)), packer.flush()])


def bomb(handler, reply):
    """Answer with a hundred megabytes that were compressed to some hundred kilobytes."""
    headers = {"Content-Encoding": "gzip"}
    handler.send_reply(Reply(reply.status, compressed_zeros(100), reply.content_type, headers))


def maze(handler, _reply):
    """Answer with JSON of a hundred thousand levels."""
    handler.send_reply(Reply(200, b'{"a":' * 100_000))


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def handle_any(self):
        service = self.server.service
        url = urlsplit(self.path)
        length = int(self.headers.get("Content-Length") or 0)
        request = Request(
            self.command,
            url.path,
            {name: values[-1] for name, values in parse_qs(url.query).items()},
            {name.lower(): value for name, value in self.headers.items()},
            self.rfile.read(length),
        )
        with service.lock:
            service.requests.append(request)
            fault = service.faults.pop(0) if service.faults else None
            # What is refused is not done; all other faults come after the work.
            refused = getattr(fault, "refuses", False)
            reply = Reply() if refused else service.answer(request)
        (fault or Handler.send_reply)(self, reply)

    do_GET = do_POST = do_PUT = do_DELETE = handle_any

    def log_message(self, *args):
        """Keep the log of the tests clean."""

    def send_reply(self, reply, part=1.0):
        self.send_response(reply.status)
        self.send_header("Content-Type", reply.content_type)
        for name, value in reply.headers.items():
            self.send_header(name, value)
        if reply.chunks is None:
            self.send_header("Content-Length", str(len(reply.body)))
            self.end_headers()
            self.wfile.write(reply.body[: int(len(reply.body) * part)])
        else:
            self.send_header("Transfer-Encoding", "chunked")
            self.end_headers()
            chunks = reply.chunks[: int(len(reply.chunks) * part)]
            for chunk in [*chunks, *([b""] if part >= 1 else [])]:
                self.wfile.write(b"%x\r\n%s\r\n" % (len(chunk), chunk))
                self.wfile.flush()
        if part < 1.0:
            self.close_connection = True


class Server(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, request, client_address):
        if isinstance(sys.exc_info()[1], ConnectionError | ValueError):
            return None  # the client or a fault hung up, as the test wants
        return super().handle_error(request, client_address)


class FakeHttpService:
    """Serves `answer()` on a free port of loopback, in threads of its own, until `close()`."""

    def __init__(self):
        self.lock = threading.RLock()
        self.server = Server(("127.0.0.1", 0), Handler)
        self.server.service = self
        self.server.ended = threading.Event()
        self.url = f"http://127.0.0.1:{self.server.server_port}"
        self.reset()
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def reset(self):
        """Forget what came, and be well."""
        self.requests = []
        self.faults = []

    def close(self):
        self.server.ended.set()
        self.server.shutdown()
        self.server.server_close()

    def answer(self, request):
        """Return the `Reply` to a request; runs in a thread of the server."""
        raise NotImplementedError

    def fault(self, *faults):
        """Have each of the next requests meet one of these faults; None is none."""
        self.faults += faults

    def refuse(self, meaning, retry_after=None, text="It went wrong."):
        """Have the next request be refused, as the exception with that `error_type` says."""
        self.fault(error(meaning, retry_after, text))

    def be_slow(self, seconds):
        self.fault(latency(seconds))

    def be_silent(self):
        self.fault(hang)

    def talk_nonsense(self):
        self.fault(garbage)

    def hang_up(self):
        self.fault(half)

    def answer_instead(self, *replies):
        """Have the next requests be answered with these `Reply`, and nothing be done."""
        self.fault(*map(instead, replies))

    def count(self, method, path=""):
        """Return how many requests of a method came whose path has `path` in it."""
        return sum(one.method == method and path in one.path for one in self.requests)
