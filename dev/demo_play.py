"""The play of the demo: an administrator sets up a provider, a user asks eight questions."""

import contextlib
import http.client
import queue
import textwrap
import threading
import time

from demo_view import WIDTH, Board, checks, plain, table, title
from lib.client import Client, RpcError
from lib.say import HaltError, halt, say
from lib.stack import LOGIN, PASSWORD

JOB, QUEUE = "llm.generation.job", "llm.generation.queue"
PROVIDER, USER = "Local model", "demo"
LIMIT = 2
#: Longest wait before the first retry: three seconds, so that nobody has to wait for it.
RETRY_DELAY_MINUTES = 0.05
#: What the model accepts, as a JSON Schema.
INPUT_SCHEMA = {
    "type": "object",
    "properties": {"prompt": {"type": "string", "minLength": 1, "maxLength": 500}},
    "required": ["prompt"],
}
#: The model's server answers the first call that has this in it with an error.
FAILING = "What is a lighthouse?"
STREAMED = "Write two sentences about a cat who waits in a queue."
CANCELLED = "Write a very long story about a dragon who learns to cook, in ten chapters."
QUESTIONS = (
    "What is the capital of France?",
    FAILING + " One sentence, please.",
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
    "state", "output_message_id", "error_message", "retry_count", "retry_at", "duration",
    "queue_duration", "prompt_tokens", "completion_tokens",
]  # fmt: skip


class Administrator:
    def __init__(self, stack):
        self.endpoint = stack.endpoint
        self.call = Client(stack.url, stack.database, LOGIN, PASSWORD).call
        self.provider_id = self.model_id = self.queue_id = None

    @contextlib.contextmanager
    def provider_at(self, api_base):
        """Have a provider whose calls go to an address; afterwards they go to the model itself."""
        title("The administrator sets up a provider")
        endpoint, queue_ = self.endpoint, {"max_concurrent_jobs": LIMIT, "auto_retry_failed": True}
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
        queue_["retry_delay_minutes"] = RETRY_DELAY_MINUTES
        self.call(QUEUE, "write", [self.queue_id], queue_)
        self.call(QUEUE, "action_enable", [self.queue_id])
        say(f"{PROVIDER}: {endpoint['model']} at {endpoint['api_base']}")
        say(f"Its queue runs {LIMIT} jobs at once and tries failed ones again within 3 seconds.")
        try:
            yield
        finally:
            values = {"api_base": endpoint["api_base"]}
            self.call("llm.provider", "write", [self.provider_id], values)

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

    def figures(self):
        return self.call(QUEUE, "get_queue_stats", [self.queue_id])

    def check_account(self):
        """Give up at once when the provider refuses the account: its queue would wait for long."""
        [row] = self.call(QUEUE, "read", [self.queue_id], ["refused_by", "health_reason"])
        if row["refused_by"]:
            halt(f"{row['health_reason']} Check LLM_API_BASE, LLM_API_KEY and LLM_MODEL.")


class Play:
    """What the user asks, what became of it, and whether that is right."""

    def __init__(self, stack, admin):
        self.admin = admin
        admin.ensure_user()
        self.user = Client(stack.url, stack.database, USER, USER)
        self.call = self.user.call
        base = {"provider_id": admin.provider_id, "model_id": admin.model_id}
        threads = self.call("llm.thread", "create", [{"name": q, **base} for q in QUESTIONS])
        self.threads = dict(zip(QUESTIONS, threads, strict=True))
        self.jobs = {}  # number: id
        self.rows = {}  # number: what was read last
        self.answers = {}
        self.refused = None
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
        middle = QUESTIONS.index(STREAMED)
        self._queue(QUESTIONS[:middle])
        self._stream(STREAMED)
        self._queue(QUESTIONS[middle + 1 :])

    def _create_jobs(self, questions, **inputs):
        return self.call(JOB, "create", [
            {"thread_id": self.threads[q], "generation_inputs": {"prompt": q, **inputs}}
            for q in questions
        ])  # fmt: skip

    def _try_bad_input(self):
        [self.refused] = self._create_jobs([QUESTIONS[0]], prompt=42)
        try:
            self.call(JOB, "action_queue", [self.refused])
        except RpcError as refusal:
            say("A request with a number for a prompt is refused:")
            for line in str(refusal).splitlines():
                say(textwrap.fill(line, WIDTH, initial_indent=" " * 4, subsequent_indent=" " * 4))
        else:
            halt("a request with a bad input was queued.")

    def _queue(self, questions):
        jobs = self._create_jobs(questions)
        self.call(JOB, "action_queue", jobs)
        for question, job in zip(questions, jobs, strict=True):
            self._add(question, job)
        self._fetch()

    def _add(self, question, job):
        number = QUESTIONS.index(question) + 1
        self.jobs[number] = job
        self.rows[number] = {"state": "queued", "retry_count": 0, "retry_at": False}

    def _stream(self, question):
        """Start the stream in a thread of its own, and wait until its job is known."""
        threading.Thread(target=self._read_events, args=[question], daemon=True).start()
        held = []
        while not (held and held[-1].get("job_id")):
            held.append(self.events.get(timeout=30))
            if held[-1]["type"] in {"error", "end"}:
                halt(f"the stream of an answer did not begin: {held[-1].get('error')}")
        self._add(question, held[-1]["job_id"])
        for event in held:
            self.events.put(event)

    def _read_events(self, question):
        form = {"thread_id": self.threads[question], "message": question, "use_queue": "1"}
        try:
            for event in self.user.events("/llm_generate_job/generate", **form):
                self.events.put(event)
        except (HaltError, OSError, http.client.HTTPException) as error:
            self.events.put({"type": "error", "error": str(error)})
        self.events.put({"type": "end"})

    # CallRecorder

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
                reason = self.admin.figures()["health_reason"]
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
        elif event["type"].startswith("message_") and message["llm_role"] == "assistant":
            self.board.grow(number, plain(message["body"]))

    def _fetch(self):
        numbers = {job: number for number, job in self.jobs.items()}
        rows = self.call(JOB, "read", list(numbers), FIELDS)
        states = [row["state"] for row in rows]
        running, done = states.count("running"), sum(map(is_over, rows))
        self.looks += 1
        if self.looks % 10 == 0:
            self.admin.check_account()
        self.most_running = max(self.most_running, running)
        self.board.figures = (len(states) - running - done, running, done)
        for row in rows:
            number = numbers[row["id"]]
            self._tell_change(number, self.rows[number], row)
            self.rows[number] = row
            writes = row["state"] == "running" and row["output_message_id"]
            if writes and QUESTIONS[number - 1] == CANCELLED:
                self.call(JOB, "action_cancel", [row["id"]])

    def _tell_change(self, number, before, row):
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

    def report(self, proxy):
        """Show the table, and what was promised; tell whether all of that is true."""
        title("What came of it")
        lines = [self._cells(number, self.rows[number]) for number in sorted(self.rows)]
        table([*lines, ("-", "refused", "-", "-", "-", "-", "(its prompt was 42)")])
        stats = self.admin.figures()
        figures = stats["performance"]
        say(
            f"\nAverage wait {figures['avg_queue_time']:.1f} s, run"
            f" {figures['avg_processing_time']:.1f} s, success {figures['success_rate']:.0f} %."
            f" Health: {stats['health']}."
        )
        states = {QUESTIONS[number - 1]: row["state"] for number, row in self.rows.items()}
        answered = [n for n, row in self.rows.items()
                    if row["state"] == "completed" and self.answers.get(n)]  # fmt: skip
        failing = next(n for n, q in enumerate(QUESTIONS, 1) if FAILING in q)
        [refused] = self.call(JOB, "read", [self.refused], ["state"])
        wanted = len(QUESTIONS) - 1
        return checks({
            f"{len(answered)} of {wanted} questions were answered": len(answered) == wanted,
            "one was cancelled while its answer was written": (
                [q for q, state in states.items() if state == "cancelled"] == [CANCELLED]
            ),
            "one was refused before it cost anything": refused["state"] == "draft",
            "one failed at the provider, was tried again and answered": (
                proxy.failures == 1
                and failing in answered
                and self.rows[failing]["retry_count"] == 1
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
