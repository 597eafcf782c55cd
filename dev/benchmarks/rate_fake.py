"""A provider that enforces its limits: so many requests and tokens in any minute."""

import json
import random
import threading
import time
from collections import deque
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

WINDOW = 60.0
#: Seconds that an answer takes.
FASTEST, SLOWEST = 0.2, 0.8


class RateFake(ThreadingHTTPServer):
    """Counts over a sliding minute and answers 429 to what is beyond."""

    daemon_threads = True

    def __init__(self, requests_per_minute, tokens_per_minute):
        super().__init__(("127.0.0.1", 0), _Handler)
        self.requests_per_minute = requests_per_minute
        self.tokens_per_minute = tokens_per_minute
        self.accepted, self.refused = [], []
        self._recent, self._tokens = deque(), 0
        self._lock = threading.Lock()
        self.url = f"http://127.0.0.1:{self.server_port}/generate"

    def __enter__(self):
        threading.Thread(target=self.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *_exc):
        self.shutdown()
        self.server_close()

    def handle_error(self, _request, _client_address):
        """Say nothing of connections that ended with their server."""

    def admit(self, tokens):
        """Return whether a request is within the limits; it counts only if it is."""
        now = time.monotonic()
        with self._lock:
            while self._recent and self._recent[0][0] <= now - WINDOW:
                self._tokens -= self._recent.popleft()[1]
            too_many = len(self._recent) >= self.requests_per_minute
            if too_many or self._tokens + tokens > self.tokens_per_minute:
                self.refused.append(now)
                return False
            self._recent.append((now, tokens))
            self._tokens += tokens
            self.accepted.append((now, tokens))
            return True


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_POST(self):
        body = self.rfile.read(int(self.headers["Content-Length"]))
        # About four characters a token, as everywhere; an answer is at most as long as was asked
        # for, and mostly shorter.
        most = json.loads(body)["max_tokens"]
        completion = random.randint(most // 2, most)
        usage = {"prompt_tokens": len(body) // 4, "completion_tokens": completion}
        if not self.server.admit(sum(usage.values())):
            self._answer(429, {"error": {"message": "slow down"}})
            return
        time.sleep(random.uniform(FASTEST, SLOWEST))
        self._answer(200, {"usage": usage})

    def _answer(self, status, values):
        data = json.dumps(values).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *_args):
        pass
