"""What to do with an attempt that failed: one pure function."""

import random
import sys
from dataclasses import dataclass

#: Seconds. A longer wait is no longer a retry; only a provider's own Retry-After exceeds it.
MAX_DELAY = 6 * 3600
#: Seconds. No known service counts over longer than a day: who asks for a longer wait means
#: milliseconds, or a date. That is asked again after an hour.
LONGEST_WINDOW = 86400.0
ODD_DELAY = 3600.0
#: Seconds of the waits between tries that cost nothing: nobody listened, or the gateway had nobody
#: to ask. They cost no retry; then the slow schedule begins.
QUICK_DELAYS = (1.0, 4.0, 15.0)
#: Seconds before the first retry of what the provider failed at, and may have billed: somebody may
#: wait for it. The others follow the slow schedule.
FIRST_RETRY_DELAY = 5.0
#: Seconds to wait for a rate limit whose length the provider does not tell.
RATE_LIMIT_DELAY = 30.0
#: Seconds a queue waits when its last answer could not be stored: the next would be paid for, too.
DISK_FULL_DELAY = 30.0
#: Seconds a queue waits before it asks again a provider that refused our account.
REFUSED_DELAY = 900.0
#: Times that a job is given back at no cost. With waits of a quarter of an hour that is a day, and
#: longer than the windows of the known limits; afterwards each time costs a retry.
MAX_SNOOZES = 100
#: Times that a rate limited job waits as long as it is told only, and the longest own wait of one.
PATIENT_SNOOZES, LONGEST_SNOOZE = 5, 900.0
#: Seconds between two looks at a thread that is busy, at most.
LONGEST_BUSY = 60.0
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

    `action` is `snooze` (queued again after `delay` seconds, costs no retry), `retry` (failed, and
    queued again after `delay` seconds) or `fail`. `pause` is how many seconds the model, or the
    whole queue, waits besides.
    """

    action: str
    delay: float = 0.0
    pause: float = 0.0


def full_jitter(base, exponent, *, rng=random.random):
    """Return a random delay between 0 and `base` doubled `exponent` times, capped.

    >>> full_jitter(10, 2, rng=lambda: 1.0)
    40.0
    >>> full_jitter(10, 2000, rng=lambda: 0.5)
    10800.0
    """
    return min(MAX_DELAY, base * 2.0 ** min(exponent, 64)) * rng()


def is_odd(wait):
    """Return whether a wait of so many seconds can only be a mistake.

    >>> is_odd(86400), is_odd(86_400_000)
    (False, True)
    """
    return wait > LONGEST_WINDOW


def believable(wait):
    """Return the seconds to wait where a provider asked for `wait`, 0 where it did not.

    >>> believable(86400), believable(86_400_000), believable(-1), believable(None)
    (86400, 3600.0, 0.0, 0.0)
    """
    if not (wait and 0 < wait <= sys.float_info.max):
        return 0.0
    return ODD_DELAY if is_odd(wait) else wait


def decide(
    error_type,
    *,
    scope=None,
    unbilled=False,
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
    :param str scope: whose fault it is, one of `SCOPES`; None for that of the type
    :param bool unbilled: whether it is sure that the provider did nothing
    :param int retry_count: retries that the job has used
    :param int max_retries: retries that the job may use
    :param int snooze_count: attempts that ended in a wait which cost no retry
    :param float retry_after: seconds that the provider asked for; see `believable()`
    :param float base_delay: seconds before the first retry, as the queue is set
    :param bool auto_retry: whether the queue retries by itself
    :param rng: returns a float in [0, 1)
    :rtype: Decision
    """
    told = believable(retry_after)
    if error_type in FINAL_ERRORS:
        return Decision("fail")
    if (unbilled or error_type == "overloaded") and snooze_count < len(QUICK_DELAYS):
        delay = QUICK_DELAYS[snooze_count] * (0.75 + 0.5 * rng())
        return Decision("snooze", delay=max(delay, told))
    pause = 0.0 if scope == "request" else _pause(error_type, told, snooze_count)
    if (pause or error_type == "busy") and snooze_count < MAX_SNOOZES:
        return Decision("snooze", delay=_snooze(error_type, told, snooze_count), pause=pause)
    if not auto_retry or retry_count >= max_retries:
        return Decision("fail", pause=pause)
    if error_type == "transient" and not (unbilled or retry_count):
        delay = min(base_delay, FIRST_RETRY_DELAY) * rng()
    else:
        delay = full_jitter(base_delay, retry_count, rng=rng)
    return Decision("retry", delay=max(delay, told), pause=pause)


def _pause(error_type, told, snooze_count):
    """Return the seconds for which nobody is to ask."""
    if error_type in REFUSALS:
        return max(told, min(ODD_DELAY, REFUSED_DELAY * 2.0 ** min(snooze_count, 9)))
    return told or RATE_LIMIT_DELAY if error_type == "rate_limited" else 0.0


def _snooze(error_type, told, snooze_count):
    """Return the seconds that a job itself waits which is given back, whoever else may ask."""
    if error_type == "busy":
        return min(LONGEST_BUSY, told * 1.5 ** min(snooze_count, 99))
    doubled = snooze_count - PATIENT_SNOOZES
    if error_type != "rate_limited" or doubled < 0:
        return 0.0
    return min(LONGEST_SNOOZE, RATE_LIMIT_DELAY * 2.0 ** min(doubled, 9))
