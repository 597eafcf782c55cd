from odoo.tests import BaseCase, tagged

from ..runner.runner import LONGEST_COOLDOWN, FetchCooldown


@tagged("post_install", "-at_install")
class TestPace(BaseCase):
    def setUp(self):
        super().setUp()
        self.now = 100.0
        self.pace = FetchCooldown(clock=lambda: self.now)

    def _work(self, seconds):
        self.pace.begin()
        self.now += seconds
        self.pace.end()

    def test_work_that_was_never_done_is_done_at_once(self):
        self.assertEqual(self.pace.rest, 0.0)

    def test_it_rests_as_long_as_the_work_took(self):
        self._work(0.002)
        self.assertAlmostEqual(self.pace.rest, 0.002)
        self.now += 0.003
        self.assertEqual(self.pace.rest, 0.0)

    def test_slow_work_does_not_make_it_rest_for_long(self):
        self._work(3.0)
        self.assertAlmostEqual(self.pace.rest, LONGEST_COOLDOWN)
