from contextlib import suppress
from types import SimpleNamespace
from unittest.mock import patch

from odoo.tests import BaseCase, tagged

from ..exceptions import TransientError
from ..runner import executor


@tagged("post_install", "-at_install")
class TestGathered(BaseCase):
    """Words of an answer that come faster than a thread can show them."""

    def setUp(self):
        super().setUp()
        self.now = 100.0
        self.startPatcher(
            patch.object(executor, "time", SimpleNamespace(monotonic=lambda: self.now))
        )

    def _come(self, *chunks):
        """Yield chunks; a number is a wait for so many seconds, an exception is raised."""
        for chunk in chunks:
            if isinstance(chunk, float):
                self.now += chunk
            elif isinstance(chunk, Exception):
                raise chunk
            else:
                yield {"content": chunk} if isinstance(chunk, str) else chunk

    def _said(self, *chunks, seconds=0.0):
        """Return what a thread gets that takes so many seconds for each piece."""
        said, pieces = [], executor.gathered(self._come(*chunks))
        with suppress(TransientError):
            for piece in pieces:
                said.append(piece.get("content", piece))
                self.now += seconds
        return said

    def test_the_first_word_comes_at_once_and_fast_ones_together(self):
        fast = [part for number in range(40) for part in (f"{number} ", 0.01)]
        said = self._said(*fast)
        self.assertEqual("".join(said), "".join(fast[::2]))
        self.assertEqual((said[0], len(said)), ("0 ", 3))

    def test_words_after_a_pause_come_at_once(self):
        self.assertEqual(self._said("a", "b", 0.06, "c", 0.06, "d"), ["a", "bc", "d"])

    def test_a_thread_that_is_slow_gets_larger_pieces(self):
        self.assertEqual(self._said(*"abcdefgh", seconds=5.0), ["a", "bcdefgh"])

    def test_what_is_no_word_comes_in_its_order(self):
        call, usage = {"tool_calls": [1]}, {"content": "e", "usage": {}}
        self.assertEqual(self._said("a", "b", "c", call, "d", usage), ["a", "bc", call, "d", "e"])

    def test_the_last_words_come_before_the_error(self):
        self.assertEqual(self._said("a", "b", "c", TransientError("Dead.")), ["a", "bc"])
        pieces = executor.gathered(self._come(TransientError("Dead.")))
        self.assertRaises(TransientError, next, pieces)
