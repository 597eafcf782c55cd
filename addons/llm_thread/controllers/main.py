import json
import logging
import threading
import time

import requests
from werkzeug.exceptions import BadRequest

from odoo import api, http
from odoo.exceptions import UserError
from odoo.http import request
from odoo.tools import config, json_default

from ..error_text import explain

_logger = logging.getLogger(__name__)

#: seconds of `limit_time_real` left for the end of a stream
TIME_MARGIN = 15


class LlmThreadController(http.Controller):
    @http.route("/llm/thread/generate", type="http", auth="user", methods=["POST"])
    def generate(self, thread_id=None, message=None):
        """Answer with the events of `generate()`, then one of type `done` or `error`."""
        if not (isinstance(thread_id, str) and thread_id.isascii() and thread_id.isdecimal()):
            raise BadRequest(request.env._("thread_id has to be the number of a conversation."))
        if not isinstance(message or "", str) or "\0" in (message or ""):
            raise BadRequest(request.env._("message has to be a text."))
        # The database refuses to look for a number of more than nine or ten digits.
        is_id = len(thread_id) < 10
        thread = request.env["llm.thread"].browse(int(thread_id) if is_id else 0).exists()
        if not thread:
            raise request.not_found()
        thread.check_access("write")
        stream = EventStream(request.env, thread.id, message)
        return request.make_response(
            stream.run(),
            headers=[
                ("Content-Type", "text/event-stream"),
                ("Cache-Control", "no-cache"),
                ("X-Accel-Buffering", "no"),
            ],
        )


class EventStream:
    """The body of an answer; it is written when the request and its cursor are gone."""

    def __init__(self, env, thread_id, message):
        self.dbname, self.uid, self.context = env.cr.dbname, env.uid, dict(env.context)
        self.open_cursor = env["llm.thread"]._open_stream_cursor
        self.slot = env["llm.thread"]._stream_slot()
        self.thread_id = thread_id
        self.message = message
        self.open_stream = None
        self.seconds = max(config["limit_time_real"] - TIME_MARGIN, 0)
        self.deadline = time.monotonic() + self.seconds if self.seconds else float("inf")

    def run(self):
        """Yield the events as bytes, each committed before it is sent."""
        timer = threading.Timer(self.seconds, self._cut)
        timer.daemon = True
        if self.seconds:
            timer.start()
        try:
            with self.open_cursor() as cr, self.slot as is_free:
                context = {**self.context, "llm_on_response": self._keep}
                env = api.Environment(cr, self.uid, context)
                yield from self._run(env) if is_free else [self._refuse(env)]
        finally:
            timer.cancel()

    def _run(self, env):
        events = env["llm.thread"].browse(self.thread_id).generate(self.message)
        try:
            yield from self._relay(env, events)
        except (UserError, requests.RequestException) as error:
            status = getattr(getattr(error, "response", None), "status_code", "")
            what = f"{type(error).__name__} {status}".strip()
            _logger.info("Thread %s got no answer: %s", self.thread_id, what)
            yield self._error(env, error)
        except Exception as error:
            _logger.warning("Thread %s got no answer", self.thread_id, exc_info=True)
            yield self._error(env, error)
        finally:
            # Also when the client is gone: the lock is freed, and what came is kept.
            events.close()
            env.cr.commit()  # pylint: disable=invalid-commit

    def _relay(self, env, events):
        for event in events:
            env.cr.commit()  # pylint: disable=invalid-commit
            yield self._encode(event)
            if self._is_late:
                yield self._encode({"type": "error", "error": self._late_text(env)})
                return
        env.cr.commit()  # pylint: disable=invalid-commit
        yield self._encode({"type": "done"})

    def _refuse(self, env):
        text = env._(
            "You are being answered in other conversations, or the server is busy. Wait for the end"
            " of one, or stop it, and send your message again."
        )
        return self._encode({"type": "error", "error": text})

    def _error(self, env, error):
        env.cr.rollback()
        text = self._late_text(env) if self._is_late else explain(env, error)
        return self._encode({"type": "error", "error": text})

    @property
    def _is_late(self):
        return time.monotonic() >= self.deadline

    def _late_text(self, env):
        return env._(
            "The answer took longer than the %s seconds that a request may take. What came is"
            " kept. Ask for a shorter answer, or for the rest.",
            self.seconds,
        )

    def _keep(self, open_stream):
        self.open_stream = open_stream

    def _cut(self):
        """End the wait for a provider that says nothing until the limit."""
        if self.open_stream:
            self.open_stream.close()

    @staticmethod
    def _encode(event):
        return f"data: {json.dumps(event, default=json_default)}\n\n".encode()
