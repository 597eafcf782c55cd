"""The day that is planned for: ten million jobs, and what goes wrong in it."""

import random

from .model import Provider, Server, Setup, Trouble

JOBS = 10_000_000
DAY, HOUR, MINUTE = 86_400, 3600, 60
#: What of the day's jobs is asked for in each hour: an office day, and bulks that end at night.
CURVE = (2, 2, 2, 2, 2, 2, 3, 5, 8, 9, 9, 8, 6, 8, 9, 9, 8, 6, 4, 3, 3, 3, 2, 2)
#: Of the jobs, those of a chat: a question each, in a transaction of its own.
CHATS = 0.2
#: Bulks that come at once: (hour, jobs, provider), and the minutes in which they are queued.
BURSTS, SPREAD = ((9, 200_000, 0), (14, 200_000, 0), (20, 300_000, 3)), 10
PROVIDERS = (
    Provider("fast", 0.40, 320, 2.0, 0.6),
    Provider("chat", 0.25, 520, 6.0, 0.6),
    Provider("large", 0.10, 520, 15.0, 0.7),
    Provider("short", 0.20, 100, 0.8, 0.4),
    Provider("image", 0.05, 350, 20.0, 0.5, polls=4.0),
)
SERVERS, PROCESSES, SLOTS, SERVER_CORES, POSTGRES_CORES = 8, 2, 128, 4, 8
OUTAGE = Trouble(1, 10 * HOUR, 30 * MINUTE)
LOSS = Trouble(3, 15 * HOUR, HOUR)
RETENTION_DAYS = 7


def setup():
    """Return the machines and providers of the day."""
    names = [f"odoo{number}" for number in range(1, SERVERS + 1)]
    return Setup(
        providers=PROVIDERS,
        servers=tuple(Server(PROCESSES, SLOTS, name) for name in names),
        hosts={"postgres": POSTGRES_CORES, **dict.fromkeys(names, SERVER_CORES)},
        outages=(OUTAGE,),
        losses=(LOSS,),
    )


def asked(jobs=JOBS, seed=1):
    """Yield for each second of the day what is asked of each provider: [(chats, bulks), …].

    Exactly so many jobs in all; seconds differ by chance, as if each user came by themselves.
    """
    rng = random.Random(seed)
    scale = jobs / JOBS
    bursts = {
        (hour * HOUR + second, provider): round(count * scale / (SPREAD * MINUTE))
        for hour, count, provider in BURSTS
        for second in range(SPREAD * MINUTE)
    }
    steady = jobs - sum(bursts.values())
    weights = [CURVE[second // HOUR] * rng.uniform(0.5, 1.5) for second in range(DAY)]
    total, reached, shares = sum(weights), 0.0, [one.share for one in PROVIDERS]
    given = [[0, 0] for _one in PROVIDERS]
    for second, weight in enumerate(weights):
        reached = 1.0 if second == DAY - 1 else reached + weight / total
        row, left = [], round(steady * reached) - sum(map(sum, given))
        for place, share in enumerate(shares):
            last = place == len(shares) - 1
            count = left if last else min(left, round(steady * reached * share) - sum(given[place]))
            left -= count
            chats = max(0, min(count, round((sum(given[place]) + count) * CHATS) - given[place][0]))
            given[place][0] += chats
            given[place][1] += count - chats
            row.append((chats, count - chats + bursts.get((second, place), 0)))
        yield row
