"""The generations of the demo: who asked what, what became of it, and whether that is right."""

import http.client
import queue
import threading
import time
from dataclasses import dataclass, field

from demo_people import CANCELLED, FAILING, LIMIT, QUESTIONS, STREAMED
from demo_view import Board, checks, plain, seconds, table, title
from lib.say import HaltError, halt, say

#: Seconds between two looks at the jobs, and until the demo gives up.
LOOK, PATIENCE = 0.2, 300
FIELDS = [
    "state", "output_message_id", "error_message", "retry_count", "retry_at", "duration",
    "queue_duration", "prompt_tokens", "completion_tokens",
]  # fmt: skip


@dataclass
class Generation:
    number: int
    question: str
    job_id: int
    state: str = "queued"
    retries: int = 0
    values: dict = field(default_factory=dict)
    answer: str = ""

    @property
    def is_over(self):
        state = self.values.get("state")
        return state in {"completed", "cancelled"} or (
            state == "failed" and not self.values["retry_at"]
        )


class Generations:
    def __init__(self, user, admin):
        self.user = user
        self.admin = admin
        self.items = {}
        self.refused = None
        self.board = Board()
        self.events = queue.Queue()
        self.streaming = True
        self.position = None
        self.most_running = self.looks = 0

    # Ask

    def ask(self):
        """Queue eight questions, the fourth one as the web page would: with a stream."""
        self.user.open_threads()
        self.refused = self.user.try_bad_input()
        say(f"\n{len(QUESTIONS)} questions go to the queue, each in a thread of its own.")
        title("The queue works")
        self.board.head()
        middle = QUESTIONS.index(STREAMED)
        self._queue(QUESTIONS[:middle])
        self._stream(STREAMED)
        self._queue(QUESTIONS[middle + 1 :])

    def _queue(self, questions):
        for question, job_id in zip(questions, self.user.queue(questions), strict=True):
            self._add(question, job_id)
        self._look()

    def _add(self, question, job_id):
        number = QUESTIONS.index(question) + 1
        self.items[number] = Generation(number, question, job_id)

    def _stream(self, question):
        """Start the stream in a thread of its own, and wait until its job is known."""
        threading.Thread(target=self._read_events, args=[question], daemon=True).start()
        deadline = time.monotonic() + 30
        held = []
        while time.monotonic() < deadline:
            event = self.events.get(timeout=30)
            held.append(event)
            if event.get("job_id"):
                self._add(question, event["job_id"])
                for one in held:
                    self.events.put(one)
                return
            if event["type"] == "error":
                break
        halt(f"the stream of an answer did not begin: {held[-1].get('error')}")

    def _read_events(self, question):
        try:
            for event in self.user.stream(question):
                self.events.put(event)
        except (HaltError, OSError, http.client.HTTPException) as error:
            self.events.put({"type": "error", "error": str(error)})
        self.events.put({"type": "end"})

    # Watch

    def watch(self):
        """Tell what happens until every job has ended."""
        deadline = time.monotonic() + PATIENCE
        due = 0.0
        while self.streaming or not all(item.is_over for item in self.items.values()):
            self._tell_events()
            if time.monotonic() >= due:
                due = time.monotonic() + LOOK
                self._look()
            if time.monotonic() > deadline:
                self._give_up()
            time.sleep(0.03)

    def _give_up(self):
        reason = self.admin.figures()["health_reason"]
        halt(
            f"the answers did not come within {PATIENCE} seconds. The queue says: {reason} "
            "A faster model can be named with LLM_API_BASE, LLM_API_KEY and LLM_MODEL."
        )

    def _tell_events(self):
        number = QUESTIONS.index(STREAMED) + 1
        while not self.events.empty():
            event = self.events.get()
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

    def _look(self):
        items = {item.job_id: item for item in self.items.values()}
        rows = self.user.call("llm.generation.job", "read", list(items), FIELDS)
        states = [row["state"] for row in rows]
        running = states.count("running")
        self.looks += 1
        if self.looks % 10 == 0:
            self.admin.check_account()
        self.most_running = max(self.most_running, running)
        for row in rows:
            items[row["id"]].values = row
        done = sum(item.is_over for item in items.values())
        self.board.figures = (len(states) - running - done, running, done)
        for row in rows:
            self._tell_change(items[row["id"]], row)
        self._cancel_when_it_answers()

    def _tell_change(self, item, row):
        if row["retry_count"] > item.retries and item.state != "failed":
            self.board.line("failed", f"{item.number} failed: {row['error_message']}")
        item.retries = row["retry_count"]
        if row["state"] == item.state:
            return
        item.state = row["state"]
        if item.state in {"completed", "cancelled"}:
            item.answer = self._answer_of(row)
        self.board.line(item.state, f"{item.number} {self._sentence(item)}")

    def _sentence(self, item):
        if item.state == "completed":
            return f"is answered: {item.answer}"
        if item.state == "failed":
            again = " and is tried again" if item.values["retry_at"] else ""
            return f"failed{again}: {item.values['error_message']}"
        return {
            "queued": "waits again",
            "running": f"runs: {item.question}",
            "cancelled": "is cancelled in the middle of its answer",
        }[item.state]

    def _answer_of(self, row):
        if not row["output_message_id"]:
            return ""
        fields = ["body"]
        message = self.user.call("mail.message", "read", [row["output_message_id"][0]], fields)
        return plain(message[0]["body"])

    def _cancel_when_it_answers(self):
        for item in self.items.values():
            writes = item.state == "running" and item.values["output_message_id"]
            if item.question == CANCELLED and writes:
                self.user.call("llm.generation.job", "action_cancel", [item.job_id])

    # Report

    def report(self, proxy):
        """Show the table, and what was promised; tell whether all of that is true."""
        title("What came of it")
        items = [self.items[number] for number in sorted(self.items)]
        table([*map(_row, items), self._refused_row()])
        self._tell_figures()
        failing = next(item for item in items if FAILING in item.question)
        answered = [item for item in items if item.state == "completed" and item.answer]
        cancelled = [item for item in items if item.state == "cancelled"]
        wanted = len(QUESTIONS) - 1
        return checks({
            f"{len(answered)} of {wanted} questions were answered": len(answered) == wanted,
            "one was cancelled while its answer was written": (
                [item.question for item in cancelled] == [CANCELLED]
            ),
            "one was refused before it cost anything": self._refused_state() == "draft",
            "one failed at the provider, was tried again and answered": (
                proxy.failures == 1 and failing.state == "completed" and failing.retries == 1
            ),
            f"never more than {LIMIT} ran at once, in {self.looks} looks": (
                0 < self.most_running <= LIMIT
            ),
        })

    def _tell_figures(self):
        stats = self.admin.figures()
        figures = stats["performance"]
        say(
            f"\nAverage wait {figures['avg_queue_time']:.1f} s, run"
            f" {figures['avg_processing_time']:.1f} s, success {figures['success_rate']:.0f} %."
            f" Health: {stats['health']}."
        )

    def _refused_state(self):
        rows = self.user.call("llm.generation.job", "read", [self.refused], ["state"])
        return rows[0]["state"]

    @staticmethod
    def _refused_row():
        blank = dict.fromkeys(("wait", "run", "tokens", "retries"), "-")
        return {**blank, "number": "-", "state": "refused", "answer": "(its prompt was 42)"}


def _row(item):
    values = item.values
    return {
        "number": item.number,
        "state": item.state,
        "wait": seconds(values["queue_duration"]),
        "run": seconds(values["duration"]),
        "tokens": f"{values['prompt_tokens']}+{values['completion_tokens']}",
        "retries": item.retries,
        "answer": item.answer or values["error_message"] or "",
    }
