from odoo.tests import BaseCase, tagged

from ..runner.wakeup import Wakeup


@tagged("post_install", "-at_install")
class TestWakeup(BaseCase):
    def setUp(self):
        super().setUp()
        self.wakeup = Wakeup()

    def test_at_first_there_is_nothing_to_look_at(self):
        self.assertFalse(self.wakeup.is_set)
        self.assertEqual(self.wakeup.take(), [])

    def test_queues_that_are_named_are_looked_at(self):
        self.wakeup.hear("queued:8,7")
        self.wakeup.hear("queued:7")
        self.assertTrue(self.wakeup.is_set)
        self.assertEqual(self.wakeup.take(), [7, 8])
        self.assertFalse(self.wakeup.is_set)

    def test_whatever_else_is_heard_is_about_all(self):
        for payload in ("slot", "queued", "queued:", "webhook", "cancel:7"):
            with self.subTest(payload=payload):
                self.wakeup.hear("queued:7")
                self.wakeup.hear(payload)
                self.assertIsNone(self.wakeup.take())
                self.assertFalse(self.wakeup.is_set)
