import json
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from odoo.tests import TransactionCase, tagged

API_KEY = "sk-canary-key-0123456789abcdef"


class Handler(BaseHTTPRequestHandler):
    """Answers with what the test put into `server.answers`, in turn."""

    protocol_version = "HTTP/1.1"

    def do_POST(self):
        length = int(self.headers.get("Content-Length") or 0)
        body = json.loads(self.rfile.read(length)) if length else None
        self.server.requests.append((self.path, dict(self.headers), body))
        answer = self.server.answers.pop(0)
        answer(self)

    do_GET = do_POST

    def log_message(self, *args):
        """Keep the log of the tests clean."""

    def send_body(self, status, content_type, body, headers=()):
        self.send_response(status)
        self.send_header("Content-Type", content_type)
        self.send_header("Content-Length", str(len(body)))
        for name, value in headers:
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def start_stream(self, status=200):
        self.send_response(status)
        self.send_header("Content-Type", "text/event-stream")
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()

    def send_chunk(self, data):
        self.wfile.write(b"%x\r\n%s\r\n" % (len(data), data))
        self.wfile.flush()


class Server(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, request, client_address):
        if isinstance(sys.exc_info()[1], ConnectionError):
            return None  # the client hung up, as the test wants
        return super().handle_error(request, client_address)


def json_answer(body, status=200, headers=()):
    """Return an answer with a JSON body."""
    return lambda handler: handler.send_body(
        status, "application/json", json.dumps(body).encode(), headers
    )


def stream_answer(*events, done=True, cut=False):
    """Return a streamed answer; a callable among the events is called in its turn.

    :param bool cut: hang up without the end of the body
    """

    def answer(handler):
        handler.start_stream()
        for event in events:
            if callable(event):
                event()
                continue
            data = (
                event if isinstance(event, bytes) else b"data: %s\n\n" % json.dumps(event).encode()
            )
            handler.send_chunk(data)
        if done:
            handler.send_chunk(b"data: [DONE]\n\n")
        if cut:
            handler.close_connection = True
        else:
            handler.send_chunk(b"")

    return answer


def raw_answer(*chunks, content_type="text/event-stream", status=200, headers=()):
    """Return an answer of these bytes, each sent by itself, and ended as it should be."""

    def answer(handler):
        handler.send_response(status)
        for name, value in (
            ("Content-Type", content_type), ("Transfer-Encoding", "chunked"), *headers,
        ):  # fmt: skip
            handler.send_header(name, value)
        handler.end_headers()
        for chunk in (*chunks, b""):
            handler.send_chunk(chunk)

    return answer


def delta(content=None, finish_reason=None, **values):
    """Return a stream event."""
    content = {} if content is None else {"content": content}
    return {"choices": [{"delta": {**content, **values}, "finish_reason": finish_reason}]}


def silence(seconds):
    """Return an answer that does not come for a while."""
    return lambda handler: time.sleep(seconds)


class ServerMixin:
    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.server = Server(("127.0.0.1", 0), Handler)
        cls.api_base = f"http://127.0.0.1:{cls.server.server_port}/v1"
        thread = threading.Thread(target=cls.server.serve_forever, daemon=True)
        thread.start()
        cls.addClassCleanup(cls.server.server_close)
        cls.addClassCleanup(cls.server.shutdown)

    def setUp(self):
        super().setUp()
        self.server.requests = []
        self.server.answers = []

    def answer(self, *answers):
        self.server.answers.extend(answers)


@tagged("post_install", "-at_install")
class LlmOpenaiCommon(ServerMixin, TransactionCase):
    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.provider = cls.env["llm.provider"].create({
            "name": "Loopback",
            "service": "openai",
            "api_base": cls.api_base,
            "api_key": API_KEY,
        })
        cls.chat_model = cls._create_model("tiny-chat", "chat")

    @classmethod
    def _create_model(cls, name, model_use):
        return cls.env["llm.model"].create({
            "name": name,
            "provider_id": cls.provider.id,
            "model_use": model_use,
            "default": True,
        })

    def _stream(self, **kwargs):
        messages = [{"role": "user", "content": "Hi"}]
        return list(self.provider.chat(messages, stream=True, **kwargs))

    def _said(self):
        """Return the text of a streamed answer, and all that is told besides."""
        chunks = self._stream()
        rest = [chunk for chunk in chunks if "content" not in chunk]
        return "".join(chunk.get("content", "") for chunk in chunks), rest
