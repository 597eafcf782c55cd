from odoo.tests import BaseCase, tagged

from ..const import LAST_ID
from ..runner.messages import (
    EVERYTHING,
    MOST_IDS,
    Cancelled,
    Due,
    Hello,
    Lost,
    Queued,
    SlotFree,
    job_event,
    parse,
)
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
        self.wakeup.hear(Queued([8, 7]))
        self.wakeup.hear(Queued([7]))
        self.wakeup.hear(SlotFree([9, 7]))
        self.assertEqual(self.wakeup.left, 0.0)
        self.assertEqual(self.wakeup.take(), [7, 8, 9])
        self.assertEqual(self.wakeup.left, float("inf"))

    def test_whatever_else_is_heard_is_about_all(self):
        for message in (SlotFree(), Queued(), EVERYTHING, Lost(), Cancelled([7])):
            with self.subTest(message):
                self.wakeup.hear(Queued([7]))
                self.wakeup.hear(message)
                self.assertIsNone(self.wakeup.take())
                self.assertEqual(self.wakeup.left, float("inf"))

    def test_what_the_clock_decides_is_not_looked_at(self):
        self.wakeup.hear(Due())
        self.assertEqual(self.wakeup.left, float("inf"))

    def test_what_is_for_later_waits_for_its_time(self):
        self.wakeup.set_later({7: 0.5, 8: 2.0})
        self.assertAlmostEqual(self.wakeup.left, 0.5)
        self.assertEqual(self.wakeup.take(), [])
        self.now += 1
        self.wakeup.hear(SlotFree([9]))
        self.assertEqual(self.wakeup.take(), [7, 9])
        self.assertAlmostEqual(self.wakeup.left, 1.0)

    def test_a_later_wait_takes_the_place_of_an_earlier_one(self):
        self.wakeup.set_later({7: 1.0})
        self.wakeup.set_later({7: 5.0})
        self.assertAlmostEqual(self.wakeup.left, 5.0)


@tagged("post_install", "-at_install")
class TestMessages(BaseCase):
    """What travels between processes, those of the release before included."""

    def test_each_message_is_heard_as_it_was_said(self):
        said = {
            "queued": EVERYTHING,
            "queued:7,8": Queued([7, 8]),
            "slot:7": SlotFree([7]),
            "cancel:1,2": Cancelled([1, 2]),
            "clock": Due(),
            "lost": Lost(),
            "hello:7": Hello([7]),
        }
        for payload, message in said.items():
            with self.subTest(payload):
                self.assertEqual(message.payload, payload)
                self.assertEqual(parse(payload), message)
        self.assertEqual(job_event(7), "7")

    def test_what_nobody_knows_is_about_everything(self):
        for payload in ("", ":", "webhook", "queued:x", "slot:7,x", "cancel:all", "queued:"):
            with self.subTest(payload):
                self.assertEqual(parse(payload), EVERYTHING)

    def test_a_message_fits_and_loses_nothing(self):
        ids = range(LAST_ID - 2 * MOST_IDS, LAST_ID + 1)
        for message in (Queued(ids), SlotFree(ids)):
            self.assertEqual(message.ids, ())  # all of them
        self.assertEqual(Queued(ids[-MOST_IDS:]).ids, tuple(ids[-MOST_IDS:]))
        self.assertEqual(Queued(ids[-MOST_IDS - 1 :]).ids, ())
        cancelled = Cancelled.each(ids)
        self.assertEqual([each for some in cancelled for each in some.ids], list(ids))
        for message in (Queued(ids[-MOST_IDS:]), *cancelled):
            self.assertLess(len(message.payload), 8000)
