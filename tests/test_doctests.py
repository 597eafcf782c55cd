import doctest
import importlib
import pkgutil

from odoo.tests import BaseCase, tagged

from .. import protocol, runner


@tagged("post_install", "-at_install")
class TestDoctests(BaseCase):
    def test_the_examples_in_the_docstrings_are_true(self):
        attempted = 0
        names = [
            f"{package.__name__}.{info.name}"
            for package in (protocol, runner)
            for info in pkgutil.iter_modules(package.__path__)
        ]
        for name in names:
            with self.subTest(module=name):
                module = importlib.import_module(name)
                result = doctest.testmod(module)
                self.assertEqual(result.failed, 0)
                attempted += result.attempted
        self.assertGreaterEqual(attempted, 10)
