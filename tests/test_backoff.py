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
        for seconds in (0.25, 45.0, 86400.0):
            with self.subTest(seconds=seconds):
                decision = decide("rate_limited", retry_after=seconds)
                self.assertEqual(decision, Decision("snooze", pause=seconds))

    def test_a_wait_longer_than_any_limit_is_an_hour(self):
        for seconds in (86_400_000.0, 1_771_404_540.0, 1e300):
            with self.subTest(seconds=seconds):
                for kind in ("rate_limited", "quota", "overloaded", "transient"):
                    decision = decide(kind, max_retries=1, retry_after=seconds, rng=lowest)
                    wait = max(decision.delay, decision.pause)
                    self.assertEqual(wait, backoff.ODD_DELAY)

    def test_a_refused_account_is_left_alone_for_a_quarter_of_an_hour_at_least(self):
        self.assertEqual(decide("quota", retry_after=5.0).pause, backoff.REFUSED_DELAY)
        self.assertEqual(decide("quota", retry_after=7200.0).pause, 7200.0)
        pauses = [decide("quota", snooze_count=n).pause for n in (0, 1, 2, 90)]
        self.assertEqual(pauses, [900.0, 1800.0, 3600.0, 3600.0])

    def test_what_cost_nothing_is_tried_again_soon_and_free_three_times(self):
        for kind in ("transient", "unknown_outcome", "overloaded"):
            for rng, share in ((lowest, 0.75), (highest, 1.25)):
                with self.subTest(kind=kind, share=share):
                    kwargs = {"unbilled": kind != "overloaded", "max_retries": 0, "rng": rng}
                    for waits, delay in enumerate((1.0, 4.0, 15.0)):
                        decision = decide(kind, snooze_count=waits, **kwargs)
                        self.assertEqual(decision, Decision("snooze", delay=delay * share))
                    self.assertEqual(decide(kind, snooze_count=3, **kwargs), Decision("fail"))
        self.assertEqual(decide("overloaded", retry_after=60.0).delay, 60.0)

    def test_after_the_quick_tries_the_slow_schedule_begins(self):
        kwargs = {"snooze_count": 3, "max_retries": 3, "rng": highest}
        self.assertEqual(decide("transient", unbilled=True, **kwargs).delay, 300.0)

    def test_the_first_retry_of_what_may_have_cost_comes_soon_and_counts(self):
        kwargs = {"max_retries": 3, "rng": highest}
        self.assertEqual(decide("transient", **kwargs), Decision("retry", delay=5.0))
        self.assertEqual(decide("transient", base_delay=2.0, **kwargs).delay, 2.0)
        self.assertEqual(decide("transient", retry_count=1, **kwargs).delay, 600.0)
        self.assertEqual(decide("unknown_outcome", **kwargs).delay, 300.0)

    def test_what_is_given_back_at_no_cost_is_so_a_number_of_times(self):
        for kind in ("rate_limited", "quota", "authentication", "busy"):
            with self.subTest(kind=kind):
                kwargs = {"max_retries": 3, "retry_after": 5.0}
                last = backoff.MAX_SNOOZES - 1
                self.assertEqual(decide(kind, snooze_count=last, **kwargs).action, "snooze")
                after = decide(kind, snooze_count=last + 1, **kwargs)
                self.assertEqual(after.action, "retry")
                self.assertEqual(bool(after.pause), kind != "busy")
                kwargs["retry_count"] = 3
                self.assertEqual(decide(kind, snooze_count=last + 1, **kwargs).action, "fail")

    def test_a_job_that_is_limited_again_and_again_waits_longer_than_others(self):
        delays = [decide("rate_limited", retry_after=2.0, snooze_count=n).delay for n in range(9)]
        self.assertEqual(delays, [0.0] * 5 + [30.0, 60.0, 120.0, 240.0])
        self.assertEqual(decide("rate_limited", snooze_count=50).delay, backoff.LONGEST_SNOOZE)
        self.assertEqual(decide("busy", retry_after=5.0).delay, 5.0)
        self.assertEqual(decide("busy", retry_after=5.0, snooze_count=50).delay, 60.0)

    def test_what_is_the_requests_own_fault_pauses_nobody(self):
        for kind in ("rate_limited", "quota", "authentication"):
            with self.subTest(kind=kind):
                decision = decide(kind, scope="request", max_retries=1)
                self.assertEqual((decision.action, decision.pause), ("retry", 0.0))
                self.assertEqual(decide(kind, scope="request"), Decision("fail"))

    def test_a_retry_waits_between_nothing_and_the_doubled_delay(self):
        for retries, most in enumerate((10.0, 20.0, 40.0)):
            with self.subTest(retries=retries):
                kwargs = {"retry_count": retries, "max_retries": 3, "base_delay": 10.0}
                self.assertEqual(decide("provider_failed", rng=highest, **kwargs).delay, most)
                self.assertEqual(decide("provider_failed", rng=lowest, **kwargs).delay, 0.0)

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
