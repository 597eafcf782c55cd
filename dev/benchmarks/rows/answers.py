"""What a real answer costs: an HTTP call; a question and an answer, posted as messages or not.

Processor time is that of the whole Odoo process: other work on the machine disturbs it little, and
the ratios of one run less.
"""

import statistics

from answer_fake import answer_fake
from report import row

NAMES = ("answers",)
COUNT, WARM_UP, AT_ONCE = 200, 20, 50
#: The call alone; what a loop of `generate()` does; what the queue does, and without messages.
WAYS = ("chat", "direct", "queued", "kept")


def measure(stand, number):
    side = stand.ours
    with answer_fake(stand.lab.folder) as address:
        for way in WAYS:
            side.call("answers", way, WARM_UP, AT_ONCE, address)
        ways = WAYS[::-1] if number % 2 else WAYS
        return {way: side.call("answers", way, COUNT, AT_ONCE, address) for way in ways}


def rows(rounds):
    def of(way, what):
        return [figures[way][what] for figures in rounds]

    def ratio(what, ours="queued", peer="direct"):
        pairs = zip(of(ours, what), of(peer, what), strict=True)
        return statistics.median(mine / other for mine, other in pairs)

    name = "a real answer, processor time of Odoo"
    yield row(f"{name}: chat() alone (ms)", of("chat", "processor"))
    yield row(f"{name}: generate(), with its messages (ms)", of("direct", "processor"))
    yield row(f"{name}: through the queue, with its messages (ms)", of("queued", "processor"))
    yield row(f"{name}: through the queue, of generate() (times)", ratio("processor"), at_most=1.25)
    yield row(f"{name}: through the queue, without messages (ms)", of("kept", "processor"))
    yield row(
        f"{name}: through the queue, without messages, of chat() (times)",
        ratio("processor", "kept", "chat"),
        at_most=2.5,
    )
    name = "real answers with messages"
    yield row(f"{name}: generate() in a loop (answers/s)", of("direct", "rate"), better="higher")
    yield row(
        f"{name}: through the queue, {AT_ONCE} at once (answers/s)",
        of("queued", "rate"),
        better="higher",
    )
    yield row(
        f"{name}: through the queue, of the loop (times)",
        ratio("rate"),
        better="higher",
        at_least=1.3,
    )
    yield row(
        f"real answers without messages: through the queue, {AT_ONCE} at once (answers/s)",
        of("kept", "rate"),
        better="higher",
        at_least=150,
    )
