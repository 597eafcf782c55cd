import doctest
import importlib
import pkgutil

from odoo.tests import BaseCase, tagged

from .. import runner


@tagged("post_install", "-at_install")
class TestDoctests(BaseCase):
    def test_the_examples_in_the_docstrings_are_true(self):
        attempted = 0
        for info in pkgutil.iter_modules(runner.__path__):
            with self.subTest(module=info.name):
                module = importlib.import_module(f"{runner.__name__}.{info.name}")
                result = doctest.testmod(module)
                self.assertEqual(result.failed, 0)
                attempted += result.attempted
        self.assertGreaterEqual(attempted, 10)
