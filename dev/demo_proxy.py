"""What stands before the model in the demo: it passes calls on, and fails one on purpose."""

import contextlib
import http.client
import json
import threading
import urllib.error
import urllib.parse
import urllib.request
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

#: Headers about a connection, not about what is said on it.
HOP_BY_HOP = frozenset({"connection", "content-length", "date", "server", "transfer-encoding"})


class ModelProxy:
    """Passes calls on to an endpoint; the first one that has `failing` in it gets an HTTP 500.

    with ModelProxy(api_base, failing="some words") as proxy:
        proxy.api_base        # where to send the calls instead
        proxy.failures        # how many it let fail
    """

    def __init__(self, api_base, failing):
        self.target = api_base.rstrip("/")
        self.failing = failing.encode()
        self.failures = 0
        self._lock = threading.Lock()
        local = urllib.parse.urlsplit(self.target).hostname in {"127.0.0.1", "localhost"}
        handlers = [urllib.request.ProxyHandler({})] if local else []
        self.opener = urllib.request.build_opener(*handlers)
        self.server = ThreadingHTTPServer(("127.0.0.1", 0), _Handler)
        self.server.daemon_threads = True
        self.server.model = self
        self.api_base = f"http://127.0.0.1:{self.server.server_port}"

    def __enter__(self):
        threading.Thread(target=self.server.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *_exc):
        self.server.shutdown()
        self.server.server_close()

    def is_to_fail(self, body):
        with self._lock:
            if self.failures or self.failing not in body:
                return False
            self.failures += 1
            return True


class _Handler(BaseHTTPRequestHandler):
    def do_GET(self):
        self._pass_on(None)

    def do_POST(self):
        self._pass_on(self.rfile.read(int(self.headers.get("Content-Length") or 0)))

    def _pass_on(self, body):
        model = self.server.model
        # Either side may hang up; that ends the call on the other side, too.
        with contextlib.suppress(OSError, http.client.HTTPException):
            if model.is_to_fail(body or b""):
                self._refuse(500, "The demo lets this one call fail.")
                return
            kept = ("Content-Type", "Authorization", "Accept")
            headers = {name: self.headers[name] for name in kept if self.headers[name]}
            try:
                request = urllib.request.Request(model.target + self.path, body, headers)
                answer = model.opener.open(request, timeout=120)
            except urllib.error.HTTPError as error:
                answer = error
            except OSError as error:
                self._refuse(502, f"The model cannot be reached: {error}")
                return
            with answer:
                self._answer(answer.status, answer.headers)
                while block := answer.read1(65536):
                    self.wfile.write(block)

    def _refuse(self, status, sentence):
        self._answer(status, {"Content-Type": "application/json"})
        self.wfile.write(json.dumps({"error": {"message": sentence}}).encode())

    def _answer(self, status, headers):
        self.send_response(status)
        for name, value in headers.items():
            if name.lower() not in HOP_BY_HOP:
                self.send_header(name, value)
        self.end_headers()

    def log_message(self, *_args):
        """Leave the terminal to the demo."""
