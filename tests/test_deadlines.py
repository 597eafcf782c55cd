from odoo.tests import BaseCase, tagged

from ..runner.runner import Timers


@tagged("post_install", "-at_install")
class TestDeadlines(BaseCase):
    def setUp(self):
        super().setUp()
        self.now = 100.0
        self.due = Timers("clock", "news", clock=lambda: self.now)

    def test_everything_is_due_at_first_and_after_a_reset(self):
        self.assertTrue(self.due.has_come("clock"))
        self.assertEqual(self.due.left("clock", "news"), 0)
        self.due.put_off("clock", 10)
        self.assertFalse(self.due.has_come("clock"))
        self.due.reset()
        self.assertTrue(self.due.has_come("clock"))

    def test_what_is_brought_forward_while_it_is_done_stays_so(self):
        self.due.put_off("clock", 10)
        self.due.bring_forward("clock", 0.5)  # another thread, in the middle of the work
        self.due.bring_forward("clock", 3)
        self.assertEqual(self.due.left("clock"), 0.5)
        self.now += 0.5
        self.assertTrue(self.due.has_come("clock"))

    def test_only_what_is_asked_for_counts(self):
        self.due.put_off("clock", 10)
        self.due.put_off("news", 0.3)
        self.assertEqual(self.due.left("clock"), 10)
        self.assertAlmostEqual(self.due.left("clock", "news"), 0.3)
