"""What a real answer costs: an HTTP call, a question and an answer posted as messages.

Processor time is that of the whole Odoo process: other work on the machine disturbs it little, and
the ratios of one run less.
"""

import json
import statistics
import subprocess

from answer_fake import after, answer_fake
from lib import paths
from lib.say import halt
from report import row

NAMES = ("answers",)
ROUNDS = 2
COUNT, WARM_UP, AT_ONCE = 200, 20, 50
#: Our ways: the call alone; what a loop of `generate()` does; what the queue does, and without
#: messages.
OURS = ("chat", "direct", "queued", "kept")
#: The same work as jobs of queue_job: question and answer posted; the answer written to a field.
PEERS = ("posted", "written")
#: Calls that take so many seconds each, with their messages.
CALLS, SECONDS = 400, 0.5
#: Questions that are queued in one call.
QUESTIONS = 3000
#: Programs without Odoo, with the environment that each runs in.
OTHERS = {"loop": "odoo", "procrastinate": "procrastinate"}
#: Answers of one that has no Odoo: it takes two seconds for them.
MANY = 1500


def measure(stand, number):
    sides = {"ours": (stand.batch, OURS), "peer": (stand.peer, PEERS)}
    names = list(sides)[:: -1 if number % 2 else 1]
    figures = {}
    with answer_fake(stand.lab.folder) as address:
        for side, ways in (sides[name] for name in names):
            for way in ways:
                side.call("answers", way, WARM_UP, AT_ONCE, address)
            for way in ways[:: -1 if number % 2 else 1]:
                figures[way] = side.call("answers", way, COUNT, AT_ONCE, address)
        slow = after(SECONDS, address)
        figures["slow"] = stand.batch.call("answers", "queued", CALLS, AT_ONCE, slow)
        figures["slow_posted"] = stand.peer.call("answers", "posted", CALLS, AT_ONCE, slow)
        for name in OTHERS:
            figures[name] = _other(stand, name, address)
    for name, side in stand.interleave(number, "batch"):
        figures[f"questions_{name}"] = {"rate": QUESTIONS / side.call("questions", QUESTIONS)}
    seconds = stand.batch.call("questions", QUESTIONS, False)
    figures["questions_kept"] = {"rate": QUESTIONS / seconds}
    return figures


def _other(stand, name, address):
    """Return the figures of a program that has no Odoo."""
    program = paths.DEV / "benchmarks" / f"answer_{name}.py"
    arguments = [address, str(MANY), str(AT_ONCE)]
    if name == "procrastinate":
        cluster = stand.lab.cluster
        cluster.drop_database(name)
        cluster.create_database(name)
        arguments.insert(0, stand.conninfo(name))
    python = paths.venv_python(OTHERS[name])
    env = {"PYTHONPYCACHEPREFIX": str(paths.cache() / "pycache"), "NO_PROXY": "127.0.0.1"}
    done = subprocess.run(
        [python, program, *arguments],
        capture_output=True,
        text=True,
        env=env,
        check=False,
        timeout=300,
    )
    if done.returncode:
        halt(f"{program.name} failed: {done.stderr}")
    return json.loads(done.stdout)


def rows(rounds):
    def of(way, what="rate"):
        return [figures[way][what] for figures in rounds]

    def ratio(way, other, what="rate"):
        pairs = zip(of(way, what), of(other, what), strict=True)
        return statistics.median(one / another for one, another in pairs)

    name, better = "real answers with messages", {"better": "higher"}
    yield row(
        f"{name}, {AT_ONCE} at once, beside queue_job (answers/s)",
        of("queued"),
        of("posted"),
        **better,
        times=2,
    )
    yield row(f"{name}: generate() in a loop (answers/s)", of("direct"), **better)
    yield row(
        f"{name}: through the queue, of the loop (times)",
        ratio("queued", "direct"),
        **better,
        at_least=1.3,
    )
    yield row(
        f"{name}, {CALLS} calls of {SECONDS} s at limit {AT_ONCE}, beside queue_job (s)",
        of("slow", "seconds"),
        of("slow_posted", "seconds"),
        at_most=4.4,
    )
    name = "answers without messages"
    yield row(
        f"{name}, {AT_ONCE} at once, beside queue_job that writes a field (answers/s)",
        of("kept"),
        of("written"),
        **better,
        at_least=150,
        times=4,
    )
    yield row(
        f"{name}, beside procrastinate that keeps none (answers/s)",
        of("kept"),
        of("procrastinate"),
        **better,
        times=0.5,
    )
    yield row(f"{name}, kept nowhere, by {AT_ONCE} threads (answers/s)", of("loop"), **better)
    yield row(
        f"{QUESTIONS:,} questions in one call, beside queue_job (questions/s)",
        of("questions_batch"),
        of("questions_peer"),
        **better,
    )
    yield row(
        f"{QUESTIONS:,} questions in one call, without messages, beside queue_job (questions/s)",
        of("questions_kept"),
        of("questions_peer"),
        **better,
        at_least=5000,
    )
    name = "a real answer, processor time of Odoo"
    yield row(f"{name}: chat() alone (ms)", of("chat", "processor"))
    yield row(f"{name}: generate(), with its messages (ms)", of("direct", "processor"), at_most=11)
    yield row(
        f"{name}: through the queue, with its messages, beside queue_job (ms)",
        of("queued", "processor"),
        of("posted", "processor"),
    )
    yield row(
        f"{name}: through the queue, of generate() (times)",
        ratio("queued", "direct", "processor"),
        at_most=1.25,
    )
    yield row(f"{name}: through the queue, without messages (ms)", of("kept", "processor"))
    yield row(
        f"{name}: through the queue, without messages, of chat() (times)",
        ratio("kept", "chat", "processor"),
        at_most=2.5,
    )
