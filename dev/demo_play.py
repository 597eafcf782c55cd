"""The play of the demo: an administrator sets up a provider, a user asks eight questions."""

import http.client
import json
import queue
import textwrap
import threading
import time
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from demo_view import WIDTH, Board, checks, plain, table, title
from lib.client import Client, RpcError
from lib.processes import wait_for
from lib.say import HaltError, halt, say
from lib.stack import LOGIN, PASSWORD, PROVIDER

JOB, QUEUE = "llm.generation.job", "llm.generation.queue"
USER = "demo"
LIMIT = 2
#: Longest wait before the first retry: three seconds, so that nobody has to wait for it.
RETRY_DELAY_MINUTES = 0.05
#: What the model accepts, as a JSON Schema.
INPUT_SCHEMA = {
    "type": "object",
    "properties": {"prompt": {"type": "string", "minLength": 1, "maxLength": 500}},
    "required": ["prompt"],
}
#: The provider answers it with an error at first.
FAILING = "What is a lighthouse? One sentence, please."
STREAMED = "Write two sentences about a cat who waits in a queue."
CANCELLED = "Write a very long story about a dragon who learns to cook, in ten chapters."
QUESTIONS = (
    FAILING,
    "What is the capital of France?",
    CANCELLED,
    STREAMED,
    "Name the four seasons of the year.",
    "What do bees make? One sentence, please.",
    "Say good morning in French.",
    "Give me one reason to learn to swim. One sentence, please.",
)
#: Seconds between two looks at the jobs, and until the demo gives up.
LOOK, PATIENCE = 0.2, 300
FIELDS = [
    "state", "thread_id", "output_message_id", "error_message", "retry_count", "retry_at",
    "duration", "queue_duration", "prompt_tokens", "completion_tokens",
]  # fmt: skip


class Administrator:
    def __init__(self, stack):
        self.endpoint = stack.endpoint
        self.call = Client(stack.url, stack.database, LOGIN, PASSWORD).call
        self.failures = 0

    def set_up(self, api_base):
        """Have a provider whose calls go to an address at first."""
        title("The administrator sets up a provider")
        endpoint = self.endpoint
        values = {"api_base": api_base, "api_key": endpoint["api_key"] or "none"}
        self.provider_id = self._ensure(
            "llm.provider", {"name": PROVIDER}, {"service": "openai", **values}
        )
        self.model_id = self._ensure(
            "llm.model",
            {"provider_id": self.provider_id, "name": endpoint["model"], "model_use": "chat"},
            {"default": True, "details": {"input_schema": INPUT_SCHEMA}},
        )
        [self.queue_id] = self.call(QUEUE, "search", [["provider_id", "=", self.provider_id]])
        values = {"max_concurrent_jobs": LIMIT, "auto_retry_failed": True}
        values["retry_delay_minutes"] = RETRY_DELAY_MINUTES
        self.call(QUEUE, "write", [self.queue_id], values)
        self.call(QUEUE, "action_enable", [self.queue_id])
        say(f"{PROVIDER}: {endpoint['model']} at {endpoint['api_base']}")
        say(f"Its queue runs {LIMIT} jobs at once and tries failed ones again within 3 seconds.")

    def _ensure(self, model, key, values):
        """Have a record with these keys and values; return its id."""
        found = self.call(model, "search", [[name, "=", value] for name, value in key.items()])
        if found:
            self.call(model, "write", found[:1], values)
            return found[0]
        return self.call(model, "create", [{**key, **values}])[0]

    def ensure_user(self):
        """Have a user with the rights of an employee, and nothing left of an earlier demo."""
        user = self._ensure("res.users", {"login": USER}, {"name": "Demo User", "password": USER})
        own = [["user_id", "=", user]]
        live = [*own, ["state", "in", ["draft", "queued", "running"]]]
        if jobs := self.call(JOB, "search", live):
            self.call(JOB, "action_cancel", jobs)
        if threads := self.call("llm.thread", "search", [*own, ["name", "in", list(QUESTIONS)]]):
            self.call("llm.thread", "unlink", threads)

    @contextmanager
    def failing_address(self):
        """Yield an address at which the one call fails that comes before it is mended."""
        with ThreadingHTTPServer(("127.0.0.1", 0), _FailingHandler) as server:
            server.admin = self
            threading.Thread(target=server.serve_forever, daemon=True).start()
            try:
                yield f"http://127.0.0.1:{server.server_port}"
            finally:
                self.mend()
                server.shutdown()

    def mend(self):
        """Have the calls go to the model."""
        values = {"api_base": self.endpoint["api_base"]}
        self.call("llm.provider", "write", [self.provider_id], values)

    def statistics(self):
        return self.call(QUEUE, "get_queue_stats", [self.queue_id])

    def check_account(self):
        """Give up at once when the provider refuses the account: its queue would wait for long."""
        [row] = self.call(QUEUE, "read", [self.queue_id], ["refused_by", "health_reason"])
        if row["refused_by"]:
            halt(f"{row['health_reason']} Check LLM_API_BASE, LLM_API_KEY and LLM_MODEL.")


class _FailingHandler(BaseHTTPRequestHandler):
    def do_POST(self):
        self.rfile.read(int(self.headers["Content-Length"]))
        admin = self.server.admin
        admin.mend()  # before the call fails: the next one is to find the model
        admin.failures += 1
        error = {"error": {"message": "The demo lets this one call fail."}}
        self.send_response(500)
        self.send_header("Content-Type", "application/json")
        self.end_headers()
        self.wfile.write(json.dumps(error).encode())

    def log_message(self, *_args):
        """Leave the terminal to the demo."""


class Play:
    """What the user asks, what became of it, and whether that is right."""

    def __init__(self, stack, admin):
        self.admin = admin
        admin.ensure_user()
        self.user = Client(stack.url, stack.database, USER, USER)
        self.call = self.user.call
        base = {"provider_id": admin.provider_id, "model_id": admin.model_id}
        self.threads = self.call("llm.thread", "create", [{"name": q, **base} for q in QUESTIONS])
        self.rows = {}  # number of the question: what was read last
        self.answers = {}
        self.board = Board()
        self.events = queue.Queue()
        self.streaming = True
        self.position = None
        self.most_running = self.looks = 0

    # Ask

    def ask(self):
        """Queue eight questions, the fourth one as the web page would: with a stream."""
        title("A user asks")
        self._try_bad_input()
        say(f"\n{len(QUESTIONS)} questions go to the queue, each in a thread of its own.")
        title("The queue works")
        say(Board.HEAD)
        self._queue(FAILING)
        wait_for(lambda: self.admin.failures, 30)
        middle = QUESTIONS.index(STREAMED)
        self._queue(*QUESTIONS[1:middle])
        threading.Thread(target=self._stream, daemon=True).start()
        self._queue(*QUESTIONS[middle + 1 :])

    def _create_jobs(self, questions, **inputs):
        return self.call(JOB, "create", [
            {
                "thread_id": self.threads[QUESTIONS.index(question)],
                "generation_inputs": {"prompt": question, **inputs},
            }
            for question in questions
        ])  # fmt: skip

    def _try_bad_input(self):
        [self.refused] = self._create_jobs([FAILING], prompt=42)
        try:
            self.call(JOB, "action_queue", [self.refused])
        except RpcError as refusal:
            say("A request with a number for a prompt is refused:")
            for line in str(refusal).splitlines():
                say(textwrap.fill(line, WIDTH, initial_indent=" " * 4, subsequent_indent=" " * 4))
        else:
            halt("a request with a bad input was queued.")

    def _queue(self, *questions):
        self.call(JOB, "action_queue", self._create_jobs(questions))
        self._fetch()

    def _stream(self):
        thread = self.threads[QUESTIONS.index(STREAMED)]
        form = {"thread_id": thread, "message": STREAMED, "use_queue": "1"}
        try:
            for event in self.user.events("/llm_generate_job/generate", **form):
                self.events.put(event)
        except (HaltError, OSError, http.client.HTTPException) as error:
            self.events.put({"type": "error", "error": str(error)})
        self.events.put({"type": "end"})

    # Watch

    def watch(self):
        """Tell what happens until every job has ended."""
        deadline, due = time.monotonic() + PATIENCE, 0.0
        while self.streaming or not all(map(is_over, self.rows.values())):
            while not self.events.empty():
                self._tell_event(self.events.get(), QUESTIONS.index(STREAMED) + 1)
            if time.monotonic() >= due:
                due = time.monotonic() + LOOK
                self._fetch()
            if time.monotonic() > deadline:
                reason = self.admin.statistics()["health_reason"]
                halt(
                    f"the answers did not come within {PATIENCE} seconds. The queue says: {reason} "
                    "A faster model can be named with LLM_API_BASE, LLM_API_KEY and LLM_MODEL."
                )
            time.sleep(0.03)

    def _tell_event(self, event, number):
        message = event.get("message") or {}
        if event["type"] == "job_status" and event["position"] not in {0, self.position}:
            self.position = event["position"]
            self.board.line("queued", f"{number} waits, position {self.position}")
        elif event["type"] == "error":
            self.board.line("failed", f"{number} got no answer: {event['error']}")
        elif event["type"] == "end":
            self.board.end_text()
            self.streaming = False
            self._fetch()
        elif event["type"].startswith("message_") and message["llm_role"] == "assistant":
            self.board.grow(number, plain(message["body"]))

    def _fetch(self):
        self.looks += 1
        if self.looks % 10 == 0:
            self.admin.check_account()
        domain = [["thread_id", "in", self.threads], ["state", "!=", "draft"]]
        rows = self.call(JOB, "search_read", domain, FIELDS, order="id")
        states = [row["state"] for row in rows]
        running, done = states.count("running"), sum(map(is_over, rows))
        self.most_running = max(self.most_running, running)
        self.board.figures = (len(states) - running - done, running, done)
        for row in rows:
            number = self.threads.index(row["thread_id"][0]) + 1
            self._tell_change(number, self.rows.get(number), row)
            self.rows[number] = row
            writes = row["state"] == "running" and row["output_message_id"]
            if writes and QUESTIONS[number - 1] == CANCELLED:
                self.call(JOB, "action_cancel", [row["id"]])

    def _tell_change(self, number, before, row):
        before = before or {"state": "queued", "retry_count": 0}
        state, error = row["state"], row["error_message"]
        if row["retry_count"] > before["retry_count"] and before["state"] != "failed":
            self.board.line("failed", f"{number} failed: {error}")
        if state == before["state"]:
            return
        if state in {"completed", "cancelled"}:
            self.answers[number] = self._answer_of(row)
        again = " and is tried again" if row["retry_at"] else ""
        self.board.line(state, f"{number} " + {
            "queued": "waits again",
            "running": f"runs: {QUESTIONS[number - 1]}",
            "completed": f"is answered: {self.answers.get(number)}",
            "failed": f"failed{again}: {error}",
            "cancelled": "is cancelled in the middle of its answer",
        }[state])  # fmt: skip

    def _answer_of(self, row):
        if not row["output_message_id"]:
            return ""
        [message] = self.call("mail.message", "read", [row["output_message_id"][0]], ["body"])
        return plain(message["body"])

    # Report

    def report(self):
        """Show the table, and what was promised; tell whether all of that is true."""
        title("What came of it")
        lines = [self._cells(number, self.rows[number]) for number in sorted(self.rows)]
        table([*lines, ("-", "refused", "-", "-", "-", "-", "(its prompt was 42)")])
        stats = self.admin.statistics()
        figures = stats["performance"]
        say(
            f"\nAverage wait {figures['avg_queue_time']:.1f} s, run"
            f" {figures['avg_processing_time']:.1f} s, success {figures['success_rate']:.0f} %."
            f" Health: {stats['health']}."
        )
        rows = {QUESTIONS[number - 1]: row for number, row in self.rows.items()}
        answered = [QUESTIONS[number - 1] for number, text in self.answers.items()
                    if text and self.rows[number]["state"] == "completed"]  # fmt: skip
        cancelled = [question for question, row in rows.items() if row["state"] == "cancelled"]
        [refused] = self.call(JOB, "read", [self.refused], ["state"])
        wanted = len(QUESTIONS) - 1
        return checks({
            f"{len(answered)} of {wanted} questions were answered": len(answered) == wanted,
            "one was cancelled while its answer was written": cancelled == [CANCELLED],
            "one was refused before it cost anything": refused["state"] == "draft",
            "one failed at the provider, was tried again and answered": (
                self.admin.failures == rows[FAILING]["retry_count"] == 1 and FAILING in answered
            ),
            f"never more than {LIMIT} ran at once, in {self.looks} looks": (
                0 < self.most_running <= LIMIT
            ),
        })

    def _cells(self, number, row):
        tokens = f"{row['prompt_tokens']}+{row['completion_tokens']}"
        wait, run = (f"{row[name]:.1f}s" if row[name] else "-"
                     for name in ("queue_duration", "duration"))  # fmt: skip
        answer = self.answers.get(number) or row["error_message"] or ""
        return number, row["state"], wait, run, tokens, row["retry_count"], answer


def is_over(row):
    return row["state"] in {"completed", "cancelled"} or (
        row["state"] == "failed" and not row["retry_at"]
    )
