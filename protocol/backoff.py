"""What to do with an attempt that failed: one pure function."""

import random
import sys
from dataclasses import dataclass

#: Seconds. A longer wait is no longer a retry; only a provider's own Retry-After exceeds it.
MAX_DELAY = 6 * 3600
#: Waits for an overloaded provider that cost no retry.
FREE_OVERLOAD_SNOOZES = 5
#: Seconds of the first wait for an overloaded provider; doubles with each wait.
OVERLOAD_DELAY = 2.0
#: Seconds to wait for a rate limit whose length the provider does not tell.
RATE_LIMIT_DELAY = 30.0
#: Seconds a queue waits when its last answer could not be stored: the next would be paid for, too.
DISK_FULL_DELAY = 30.0
#: Seconds a queue waits before it asks again a provider that refused our account.
REFUSED_DELAY = 900.0
#: A job that was running in this many processes when they died is not tried again.
MAX_WORKER_DEATHS = 3

FINAL_ERRORS = frozenset({
    "bad_request",
    "content_refused",
    "cancelled",
    "access",
    "internal",
    "unreadable",
})
REFUSALS = frozenset({"quota", "authentication"})


@dataclass(frozen=True)
class Decision:
    """What happens to a job after a failed attempt.

    `action` is `snooze` (queued again, costs no retry), `retry` (failed, and queued again
    after `delay` seconds) or `fail`. `pause` is how many seconds the whole queue waits.
    """

    action: str
    delay: float = 0.0
    pause: float = 0.0


def full_jitter(base, exponent, *, cap=MAX_DELAY, rng=random.random):
    """Return a random delay between 0 and `base` doubled `exponent` times, capped.

    >>> full_jitter(10, 2, rng=lambda: 1.0)
    40.0
    >>> full_jitter(10, 2000, cap=60, rng=lambda: 0.5)
    30.0
    """
    return min(cap, base * 2.0 ** min(exponent, 64)) * rng()


def decide(
    error_type,
    *,
    retry_count=0,
    max_retries=0,
    snooze_count=0,
    retry_after=None,
    base_delay=300.0,
    auto_retry=True,
    rng=random.random,
):
    """Decide on a failed attempt.

    :param str error_type: a key of `ERROR_TYPES`
    :param int retry_count: retries that the job has used
    :param int max_retries: retries that the job may use
    :param int snooze_count: attempts that ended in a wait which cost no retry
    :param float retry_after: seconds that the provider asked for; honored whatever its length
    :param float base_delay: seconds before the first retry, as the queue is set
    :param bool auto_retry: whether the queue retries by itself
    :param rng: returns a float in [0, 1)
    :rtype: Decision
    """
    if not (retry_after and 0 < retry_after <= sys.float_info.max):
        retry_after = None
    if error_type in FINAL_ERRORS:
        return Decision("fail")
    if error_type in REFUSALS:
        return Decision("snooze", pause=max(retry_after or 0.0, REFUSED_DELAY))
    if error_type == "rate_limited":
        return Decision("snooze", pause=retry_after or RATE_LIMIT_DELAY)
    if error_type == "busy":
        return Decision("snooze", delay=retry_after or 0.0)
    if error_type == "overloaded" and snooze_count < FREE_OVERLOAD_SNOOZES:
        delay = full_jitter(OVERLOAD_DELAY, snooze_count, rng=rng) + OVERLOAD_DELAY
        return Decision("snooze", delay=max(delay, retry_after or 0.0))
    if not auto_retry or retry_count >= max_retries:
        return Decision("fail")
    delay = full_jitter(base_delay, retry_count, rng=rng)
    return Decision("retry", delay=max(delay, retry_after or 0.0))
