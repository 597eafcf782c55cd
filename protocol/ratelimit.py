"""Token buckets for requests and tokens per minute: pure functions."""

#: Share of the provider's limit that is used. The rest absorbs the jitter of the network:
#: two requests that left here a second apart can arrive together.
SAFETY = 0.98
#: Seconds of allowance that may be saved up. A provider that counts over a sliding minute sees
#: at most one minute's worth plus this burst.
BURST_SECONDS = 1.0


def capacity(per_minute):
    """Return the most that a bucket holds.

    >>> capacity(600)
    9.8
    >>> capacity(6)
    1.0
    """
    return max(1.0, per_minute * SAFETY / 60 * BURST_SECONDS)


def refill(level, per_minute, elapsed):
    """Return the level of a bucket `elapsed` seconds after it was `level`.

    A level may be negative: a job may start while anything is left, and what it really used
    is settled afterwards.

    >>> round(refill(0.0, 600, 0.5), 3)
    4.9
    >>> refill(-10.0, 600, 0)
    -10.0
    """
    return min(capacity(per_minute), level + per_minute * SAFETY / 60 * max(0.0, elapsed))


def wait_for(level, per_minute, needed=1.0):
    """Return the seconds until the bucket holds `needed`.

    >>> wait_for(2.0, 60)
    0.0
    >>> round(wait_for(0.0, 60 / SAFETY), 6)
    1.0
    """
    return max(0.0, (min(needed, capacity(per_minute)) - level) / (per_minute * SAFETY / 60))
