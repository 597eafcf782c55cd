import re

import polib

from odoo.tests import TransactionCase, tagged
from odoo.tools.misc import file_path

from .translations import MODULE, export_template

LANGUAGES = ("de", "fr")
PLACEHOLDER = re.compile(r"%(?:\(\w+\))?[sd%]|<[^>]+>")


def read(name):
    return polib.pofile(file_path(f"{MODULE}/i18n/{name}"))


@tagged("post_install", "-at_install")
class TestTranslations(TransactionCase):
    """What `make translate` keeps: every text is in the template, and has its translations."""

    def test_the_template_has_every_text(self):
        exported = {entry.msgid for entry in export_template(self.env)}
        written = {entry.msgid for entry in read(f"{MODULE}.pot")}
        self.assertEqual(sorted(exported - written), [], "Run make translate.")
        self.assertEqual(sorted(written - exported), [], "Run make translate.")

    def test_every_text_is_translated(self):
        texts = {entry.msgid for entry in read(f"{MODULE}.pot")}
        for language in LANGUAGES:
            with self.subTest(language):
                translated = {entry.msgid for entry in read(f"{language}.po") if entry.msgstr}
                self.assertEqual(sorted(texts - translated), [])

    def test_translations_keep_what_is_filled_in(self):
        for language in LANGUAGES:
            for entry in read(f"{language}.po"):
                with self.subTest(language, text=entry.msgid):
                    self.assertEqual(
                        sorted(PLACEHOLDER.findall(entry.msgstr)),
                        sorted(PLACEHOLDER.findall(entry.msgid)),
                    )

    def test_a_user_reads_them(self):
        self.env["res.lang"]._activate_lang("de_DE")
        module = self.env["ir.module.module"].search([("name", "=", MODULE)])
        module._update_translations(["de_DE"])
        job = self.env["llm.generation.job"].with_context(lang="de_DE")
        self.assertEqual(job.env._("The generation failed."), "Die Generierung ist fehlgeschlagen.")
        label = job.fields_get(["priority"])["priority"]["string"]
        self.assertEqual(label, "Priorität")
