from odoo.tests import BaseCase, tagged

from ..protocol.ratelimit import SAFETY, capacity, refill, wait_for


@tagged("post_install", "-at_install")
class TestRatelimit(BaseCase):
    def test_a_minute_lets_no_more_through_than_the_provider_allows(self):
        per_minute, level, started = 120, capacity(120), 0
        for _tick in range(600):
            level = refill(level, per_minute, 0.1)
            while level >= 1.0:
                level -= 1.0
                started += 1
        self.assertLessEqual(started, per_minute)
        self.assertGreater(started, per_minute * 0.9)

    def test_an_idle_queue_saves_up_one_second_only(self):
        self.assertEqual(refill(0.0, 600, 3600.0), capacity(600))
        self.assertEqual(capacity(600), 600 * SAFETY / 60)

    def test_a_limit_below_one_a_second_still_lets_one_through(self):
        self.assertEqual(capacity(1), 1.0)
        self.assertAlmostEqual(wait_for(0.0, 1), 60 / SAFETY)

    def test_a_debt_is_paid_off_by_waiting(self):
        wait = wait_for(-500.0, 60000)
        self.assertGreater(wait, 0.5)
        self.assertAlmostEqual(refill(-500.0, 60000, wait), 1.0)

    def test_a_clock_that_goes_backwards_takes_nothing_away(self):
        self.assertEqual(refill(3.0, 600, -5.0), 3.0)
