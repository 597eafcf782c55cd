from odoo.tests import BaseCase, tagged

from ..runner.runner import PendingQueues


@tagged("post_install", "-at_install")
class TestWakeup(BaseCase):
    def setUp(self):
        super().setUp()
        self.now = 100.0
        self.wakeup = PendingQueues(clock=lambda: self.now)

    def test_at_first_there_is_nothing_to_look_at(self):
        self.assertEqual(self.wakeup.left, float("inf"))
        self.assertEqual(self.wakeup.take(), [])

    def test_queues_that_are_named_are_looked_at(self):
        self.wakeup.hear("queued:8,7")
        self.wakeup.hear("queued:7")
        self.wakeup.hear("slot:9,7")
        self.assertEqual(self.wakeup.left, 0.0)
        self.assertEqual(self.wakeup.take(), [7, 8, 9])
        self.assertEqual(self.wakeup.left, float("inf"))

    def test_whatever_else_is_heard_is_about_all(self):
        for payload in ("slot:", "queued", "queued:", "webhook", "cancel:7"):
            with self.subTest(payload=payload):
                self.wakeup.hear("queued:7")
                self.wakeup.hear(payload)
                self.assertIsNone(self.wakeup.take())
                self.assertEqual(self.wakeup.left, float("inf"))

    def test_what_the_clock_decides_is_not_looked_at(self):
        self.wakeup.hear("clock")
        self.assertEqual(self.wakeup.left, float("inf"))

    def test_what_is_for_later_waits_for_its_time(self):
        self.wakeup.set_later({7: 0.5, 8: 2.0})
        self.assertAlmostEqual(self.wakeup.left, 0.5)
        self.assertEqual(self.wakeup.take(), [])
        self.now += 1
        self.wakeup.hear("slot:9")
        self.assertEqual(self.wakeup.take(), [7, 9])
        self.assertAlmostEqual(self.wakeup.left, 1.0)

    def test_a_later_wait_takes_the_place_of_an_earlier_one(self):
        self.wakeup.set_later({7: 1.0})
        self.wakeup.set_later({7: 5.0})
        self.assertAlmostEqual(self.wakeup.left, 5.0)
