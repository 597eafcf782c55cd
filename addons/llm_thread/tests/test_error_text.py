from types import SimpleNamespace

import requests

from odoo.tests import TransactionCase

from ..error_text import explain


class TestErrorText(TransactionCase):
    def test_no_status_is_told(self):
        """Who chats acts on a sentence; a number is for the log."""
        told = set()
        for status in (400, 401, 402, 403, 404, 413, 422, 429, 500, 503):
            with self.subTest(status):
                response = SimpleNamespace(status_code=status)
                error = requests.HTTPError(f"HTTP {status}: no", response=response)
                sentence = explain(self.env, error)
                self.assertNotRegex(sentence, r"\d|HTTP")
                self.assertTrue(sentence.endswith("."), sentence)
                told.add(sentence)
        self.assertEqual(len(told), 6, "each meaning has its sentence")
