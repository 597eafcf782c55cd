import contextlib
import json
import logging
import threading
import time

import psycopg2
from werkzeug.exceptions import BadRequest

from odoo import api, http
from odoo.exceptions import UserError
from odoo.http import request
from odoo.modules.registry import Registry
from odoo.tools import config, json_default

from ..const import LAST_ID
from ..protocol.answer import Claim
from ..protocol.http_errors import classify, redact, traceback_of
from ..runner import streams
from ..runner.cursor import LazyCursor
from ..runner.executor import Execution

_logger = logging.getLogger(__name__)

#: Seconds of `limit_time_real` left for the end of a stream.
TIME_MARGIN = 15
#: Sent while there is nothing to say, which is how one hears that the client is gone.
HEARTBEAT = b": \n\n"
LAST_EVENTS = ("done", "error", "cancelled")
#: Of an answer whose body is a stream of events; proxies are not to gather them.
HEADERS = (
    ("Content-Type", "text/event-stream"),
    ("Cache-Control", "no-cache"),
    ("X-Accel-Buffering", "no"),
)


def id_of(text):
    """Return the id that a parameter of a request is, 0 for one that no record has.

    :return: None for what is no number
    """
    if not (isinstance(text, str) and text.isascii() and text.isdecimal()):
        return None
    # The database refuses to look for a larger number, and Python to read one of many digits.
    number = int(text) if len(text) < 11 else 0
    return number if number <= LAST_ID else 0


def encode(event):
    """Return an event as an event stream has it."""
    return f"data: {json.dumps(event, default=json_default)}\n\n".encode()


def too_many_text(env):
    """Return what somebody is told who has as many streams as anybody may."""
    return env._(
        "You read %s answers at once already, and more is not possible. Wait for the end of"
        " one, or close it, and try again.",
        streams.USER_STREAMS,
    )


def no_room_text(env):
    """Return what somebody is told where the process gives as many direct answers as it may."""
    return env._(
        "The server gives as many answers at once as it can. Try again in a"
        " moment, or ask through the queue."
    )


def respond(stream):
    """Return the response whose body is an `EventStream`."""
    return request.make_response(stream.run(), headers=list(HEADERS))


class EventStream:
    """The body of an answer; it is written when the request and its cursor are gone.

    :param asked: further arguments of `generate_response()`
    """

    def __init__(self, env, *, thread_id=None, message=None, use_queue=None, job_id=None, **asked):
        self.dbname, self.uid, self.context = env.cr.dbname, env.uid, dict(env.context)
        self.thread_id, self.message, self.use_queue = thread_id, message, use_queue
        self.job_id, self.asked = job_id, asked
        self.execution = Execution(Claim(0, 0))  # of no job
        self.seconds = max(config["limit_time_real"] - TIME_MARGIN, 0)
        self.deadline = time.monotonic() + self.seconds if self.seconds else float("inf")

    def run(self):
        """Yield the events as bytes, each committed before it is sent."""
        # Ends the wait for a provider that says nothing until the limit.
        timer = threading.Timer(self.seconds, self.execution.hang_up)
        timer.daemon = True
        if self.seconds:
            timer.start()
        try:
            # It holds no connection while the provider, or the job, is waited for.
            with (
                LazyCursor(Registry(self.dbname)) as cr,
                streams.of_user(self.dbname, self.uid) as is_free,
            ):
                context = {**self.context, "llm_on_response": self.execution.on_response}
                env = api.Environment(cr, self.uid, context)
                yield from self._run(env) if is_free else [self._refuse(env)]
        finally:
            timer.cancel()

    def _run(self, env):
        try:
            yield from self._relay(env)
        except Exception as error:  # noqa: BLE001 it is logged without the key
            if known := error if isinstance(error, UserError) else classify(error):
                _logger.info("Thread %s got no answer: %s", self.thread_id, type(error).__name__)
                yield self._fail(env, redact(known, self._key(env)))
            else:
                trace = traceback_of(error, self._key(env))
                _logger.warning("Thread %s got no answer\n%s", self.thread_id, trace)
                yield self._fail(env)
        finally:
            # Also when the client is gone: what came of a direct answer is kept.
            env.cr.commit()  # pylint: disable=invalid-commit

    def _relay(self, env):
        with contextlib.closing(self._events(env)) as events:
            for event in events:
                # A tool of the family speaks within its savepoint, which a commit would end.
                if not env.cr.in_savepoint:
                    env.cr.commit()  # pylint: disable=invalid-commit
                yield self._encode(event) if event else HEARTBEAT
                if event and event["type"] in LAST_EVENTS:
                    return
                if self._is_late:
                    yield self._encode(self._late_event(env))
                    return

    def _events(self, env):
        """Yield the events, and None from time to time while nothing happens."""
        if not self.job_id:
            yield from self._ask(env)
        if self.job_id:
            job = env["llm.generation.job"].browse(self.job_id)
            yield from env["llm.generation.engine"]._follow(job, heartbeats=True)

    def _ask(self, env):
        """Yield the events of `generate_response()` until a job is known that gives the answer."""
        thread = env["llm.thread"].browse(self.thread_id)
        use_queue = self.use_queue
        if use_queue is None:
            use_queue = thread._should_queue_generation()
        with contextlib.ExitStack() as stack:
            if not use_queue and not stack.enter_context(streams.direct()):
                raise UserError(no_room_text(env))
            events = thread.generate_response(self.message, use_queue=use_queue, **self.asked)
            for event in stack.enter_context(contextlib.closing(events)):
                yield event
                self.job_id = event.get("job_id")
                if self.job_id:
                    return
        yield {"type": "done"}

    @property
    def _is_late(self):
        return time.monotonic() >= self.deadline

    def _late_event(self, env):
        if self.job_id:
            return {"type": "follow", "job_id": self.job_id}
        return {
            "type": "error",
            "error": env._(
                "The answer took longer than the %s seconds that a request may take. What came is"
                " kept. Ask through the queue, which has no such limit.",
                self.seconds,
            ),
        }

    def _refuse(self, env):
        return self._encode({"type": "error", "error": too_many_text(env)})

    def _fail(self, env, text=None):
        env.cr.rollback()
        if self._is_late:
            return self._encode(self._late_event(env))
        text = text or env._(
            "The answer failed for a reason that is in the server's log. Try again; if it stays"
            " so, tell an administrator."
        )
        return self._encode({"type": "error", "error": text})

    def _key(self, env):
        """Return the key that the answer was asked with, which nobody is told."""
        with contextlib.suppress(psycopg2.Error):  # of a transaction that is broken already
            return env["llm.thread"].browse(self.thread_id or ()).provider_id._told_key()
        return ""

    @staticmethod
    def _encode(event):
        return encode(event)


class LlmGenerationController(http.Controller):
    @http.route("/llm_generate_job/generate", type="http", auth="user", methods=["POST"])
    def generate(self, thread_id=None, message=None, use_queue=None):
        """Answer with the events of `generate_response()`.

        A stream that has to end before its job does ends with an event of type `follow`.

        :param use_queue: "1" or "0"; without it the thread chooses
        """
        thread = self._find("llm.thread", "thread_id", thread_id)
        if not isinstance(message or "", str) or "\0" in (message or ""):
            raise BadRequest(request.env._("%s has to be a text.", "message"))
        thread.check_access("write")
        choice = {"1": True, "0": False}.get(use_queue)
        asked = {"thread_id": thread.id, "message": message or None, "use_queue": choice}
        return respond(EventStream(request.env, **asked))

    @http.route("/llm_generate_job/follow", type="http", auth="user", methods=["GET", "POST"])
    def follow(self, job_id=None, **_kwargs):
        """Answer with the events of a job, from where it stands now to its end."""
        job = self._find("llm.generation.job", "job_id", job_id)
        job.check_access("read")
        job.thread_id.check_access("read")
        return respond(EventStream(request.env, job_id=job.id))

    def _find(self, model, name, record_id):
        """Return the record that a parameter of the request names.

        :raise BadRequest: where it is missing, or no number
        :raise NotFound: where there is no such record
        """
        if (number := id_of(record_id)) is None:
            raise BadRequest(request.env._("%s has to be a number.", name))
        record = request.env[model].browse(number).exists()
        if not record:
            raise request.not_found()
        return record
