"""A provider that answers as OpenAI streams: `python answer_fake.py PORT`.

It answers at once, and below `/SECONDS/` after so many seconds.
"""

import contextlib
import json
import sys
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from lib import processes
from lib.processes import wait_for
from lib.say import halt

SENTENCE = "A chair of solid oak, oiled by hand, that lasts for generations. "
#: Words come in so many pieces; six sentences are an answer of 390 characters.
SENTENCES, PIECES = 6, 4


def _event(**values):
    return f"data: {json.dumps(values)}\n\n"


def _answer():
    text = SENTENCE * SENTENCES
    size = -(-len(text) // PIECES)
    pieces = [text[start : start + size] for start in range(0, len(text), size)]
    events = [_event(choices=[{"index": 0, "delta": {"content": piece}}]) for piece in pieces]
    events.append(_event(choices=[{"index": 0, "delta": {}, "finish_reason": "stop"}]))
    events.append(_event(choices=[], usage={"prompt_tokens": 60, "completion_tokens": 100}))
    return ("".join(events) + "data: [DONE]\n\n").encode()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    wbufsize = -1
    disable_nagle_algorithm = True
    answer = _answer()

    def do_POST(self):
        self.rfile.read(int(self.headers["Content-Length"]))
        with contextlib.suppress(ValueError):
            time.sleep(float(self.path.split("/")[1]))
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        self.send_header("Content-Length", str(len(self.answer)))
        self.end_headers()
        self.wfile.write(self.answer)

    def log_message(self, *_args):
        pass


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 200


@contextlib.contextmanager
def answer_fake(folder):
    """Yield the address of a provider that runs meanwhile; see `after()`."""
    port, log = processes.free_port(), folder / "answers.log"
    process = processes.start([sys.executable, Path(__file__).resolve(), port], log)
    try:
        if not wait_for(lambda: not processes.port_is_free(port), 10):
            halt(f"the provider did not start: see {log}.")
        yield f"http://127.0.0.1:{port}/v1"
    finally:
        process.kill()


def after(seconds, address):
    """Return the address at which the provider answers after so many seconds."""
    return address.replace("/v1", f"/{seconds}/v1")


if __name__ == "__main__":
    _Server(("127.0.0.1", int(sys.argv[1])), _Handler).serve_forever()
