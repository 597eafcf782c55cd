"""How much later the first word of an answer is there than without the queue."""

from report import quantile, row

NAMES = ("first_word",)
PAIRS = 60
WARM_UP = 5


def measure(stand, _number):
    side = stand.ours
    side.call("first_words", WARM_UP)
    return side.call("first_words", PAIRS)


def rows(rounds):
    def median(way, mark):
        samples = [sample[mark] for figures in rounds for sample in figures[way]]
        return quantile(samples, 0.5)

    direct, queued = (median(way, "seen") for way in ("direct", "queue"))
    before = [median(way, "called") for way in ("direct", "queue")]
    name = "first word of an answer"
    yield row(f"{name}, directly, p50 (ms)", direct)
    yield row(f"{name}, through the queue, p50 (ms)", queued)
    yield row(f"{name}, added by the queue, p50 (ms)", queued - direct, at_most=12)
    yield row(f"{name}, of which before the provider is called (ms)", before[1] - before[0])
