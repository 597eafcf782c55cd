"""The texts of an addon that people see: what `make translate` writes and the tests compare.

An addon that has them translated has a folder `i18n/`, and a test class on `TranslationsCase`.
"""

import io
import re
from unittest import SkipTest

import polib

from odoo.tests import TransactionCase, tagged
from odoo.tools.misc import file_path
from odoo.tools.translate import trans_export

from .common import OF_ANOTHER_LLM
from .rights import has_table

LANGUAGES = ("de", "fr")
PLACEHOLDER = re.compile(r"%(?:\(\w+\))?[sd%]|<[^>]+>|\{\{.+?\}\}")
#: Of what else is in an addon's folder: other modules, and what never speaks to users.
FOREIGN = ("addons", "dev", "tests")


def export_template(env, addon):
    """Return the texts that the database and the sources have now, as a `polib.POFile`."""
    buffer = io.BytesIO()
    trans_export(None, [addon], buffer, "po", env)
    template = polib.pofile(buffer.getvalue().decode())
    foreign = tuple(f"code:addons/{addon}/{folder}/" for folder in FOREIGN)
    for entry in list(template):
        entry.occurrences = [at for at in entry.occurrences if not at[0].startswith(foreign)]
        if not entry.occurrences:
            template.remove(entry)
    return template


@tagged("post_install", "-at_install")
class TranslationsCase(TransactionCase):
    """What `make translate` keeps: every text is in the template, and has its translations."""

    addon = None
    allow_inherited_tests_method = True

    def _read(self, name):
        return polib.pofile(file_path(f"{self.addon}/i18n/{name}"))

    def _in_german(self, model):
        """Return a model as somebody sees it who reads German."""
        self.env["res.lang"]._activate_lang("de_DE")
        module = self.env["ir.module.module"].search([("name", "=", self.addon)])
        module._update_translations(["de_DE"])
        return self.env[model].with_context(lang="de_DE")

    def test_the_template_has_every_text(self):
        if not has_table("llm"):  # the names of models that we extend are in it
            raise SkipTest(OF_ANOTHER_LLM + "that names its models as ours does")
        exported = {entry.msgid for entry in export_template(self.env, self.addon)}
        written = {entry.msgid for entry in self._read(f"{self.addon}.pot")}
        self.assertEqual(sorted(exported - written), [], "Run make translate.")
        self.assertEqual(sorted(written - exported), [], "Run make translate.")

    def test_every_text_is_translated(self):
        texts = {entry.msgid for entry in self._read(f"{self.addon}.pot")}
        for language in LANGUAGES:
            with self.subTest(language):
                entries = self._read(f"{language}.po")
                translated = {entry.msgid for entry in entries if entry.translated()}
                self.assertEqual(sorted(texts - translated), [])

    def test_translations_keep_what_is_filled_in(self):
        for language in LANGUAGES:
            for entry in self._read(f"{language}.po"):
                with self.subTest(language, text=entry.msgid):
                    self.assertEqual(
                        sorted(PLACEHOLDER.findall(entry.msgstr)),
                        sorted(PLACEHOLDER.findall(entry.msgid)),
                    )
