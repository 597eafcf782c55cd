from odoo.tests import BaseCase, tagged

from ..const import ERROR_TYPES
from ..protocol import backoff
from ..protocol.backoff import Decision, decide, full_jitter


def highest():
    return 1.0


def lowest():
    return 0.0


@tagged("post_install", "-at_install")
class TestBackoff(BaseCase):
    def test_each_error_type_has_its_consequence(self):
        expected = {
            "rate_limited": ("snooze", backoff.RATE_LIMIT_DELAY),
            "overloaded": ("snooze", 0.0),
            "busy": ("snooze", 0.0),
            "quota": ("snooze", backoff.REFUSED_DELAY),
            "authentication": ("snooze", backoff.REFUSED_DELAY),
            "transient": ("retry", 0.0),
            "unknown_outcome": ("retry", 0.0),
            "unreadable": ("fail", 0.0),
            "provider_failed": ("retry", 0.0),
            "timeout": ("retry", 0.0),
            "worker_died": ("retry", 0.0),
            "bad_request": ("fail", 0.0),
            "content_refused": ("fail", 0.0),
            "cancelled": ("fail", 0.0),
            "access": ("fail", 0.0),
            "internal": ("fail", 0.0),
        }
        self.assertEqual(set(expected), {code for code, _label in ERROR_TYPES})
        for error_type, (action, pause) in expected.items():
            with self.subTest(error_type=error_type):
                decision = decide(error_type, retry_count=0, max_retries=3)
                self.assertEqual((decision.action, decision.pause), (action, pause))

    def test_a_rate_limit_lasts_as_long_as_the_provider_says(self):
        for seconds in (0.25, 45.0, 3 * 86400.0):
            with self.subTest(seconds=seconds):
                decision = decide("rate_limited", retry_after=seconds)
                self.assertEqual(decision, Decision("snooze", pause=seconds))

    def test_a_refused_account_is_left_alone_for_a_quarter_of_an_hour_at_least(self):
        self.assertEqual(decide("quota", retry_after=5.0).pause, backoff.REFUSED_DELAY)
        self.assertEqual(decide("quota", retry_after=7200.0).pause, 7200.0)

    def test_the_first_waits_for_an_overloaded_provider_are_free(self):
        free = [
            decide("overloaded", snooze_count=waits, max_retries=3).action
            for waits in range(backoff.FREE_OVERLOAD_SNOOZES + 1)
        ]
        self.assertEqual(free, ["snooze"] * backoff.FREE_OVERLOAD_SNOOZES + ["retry"])

    def test_the_waits_for_an_overloaded_provider_grow(self):
        delays = [decide("overloaded", snooze_count=n, rng=highest).delay for n in range(4)]
        self.assertEqual(delays, [4.0, 6.0, 10.0, 18.0])
        self.assertEqual(decide("overloaded", rng=highest, retry_after=60.0).delay, 60.0)

    def test_a_retry_waits_between_nothing_and_the_doubled_delay(self):
        for retries, most in enumerate((10.0, 20.0, 40.0)):
            with self.subTest(retries=retries):
                kwargs = {"retry_count": retries, "max_retries": 3, "base_delay": 10.0}
                self.assertEqual(decide("transient", rng=highest, **kwargs).delay, most)
                self.assertEqual(decide("transient", rng=lowest, **kwargs).delay, 0.0)

    def test_a_retry_waits_at_least_as_long_as_the_provider_asks(self):
        decision = decide("transient", max_retries=1, retry_after=90.0, rng=lowest)
        self.assertEqual(decision, Decision("retry", delay=90.0))

    def test_nothing_is_retried_without_a_retry_left(self):
        self.assertEqual(decide("transient", retry_count=3, max_retries=3), Decision("fail"))
        self.assertEqual(decide("transient", max_retries=0), Decision("fail"))

    def test_a_queue_that_does_not_retry_still_waits_for_a_rate_limit(self):
        self.assertEqual(decide("transient", max_retries=3, auto_retry=False).action, "fail")
        self.assertEqual(decide("rate_limited", auto_retry=False).action, "snooze")

    def test_jitter_stays_below_its_cap_however_often_it_doubles(self):
        self.assertEqual(full_jitter(300, 5000, rng=highest), backoff.MAX_DELAY)
        self.assertEqual(full_jitter(300, 0, rng=lowest), 0.0)

    def test_a_wait_that_is_none_counts_as_not_told(self):
        for wait in (float("nan"), float("inf"), -5.0, 0.0):
            with self.subTest(wait):
                decision = decide("rate_limited", retry_after=wait)
                self.assertEqual(decision.pause, backoff.RATE_LIMIT_DELAY)
