"""The texts of an addon that people see: what `make translate` writes and the tests compare."""

import io
from pathlib import Path
from unittest import SkipTest

import polib

from odoo.modules.module import get_module_path
from odoo.tests import TransactionCase, tagged
from odoo.tools.translate import trans_export

from .common import OF_ANOTHER_LLM
from .po_files import complaints
from .rights import has_table

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

    def _addons(self):
        """Return the names of those whose translations are tested."""
        return [self.addon]

    def _folder(self, addon):
        return Path(get_module_path(addon), "i18n")

    def _in_german(self, model):
        """Return a model as somebody sees it who reads German."""
        self.env["res.lang"]._activate_lang("de_DE")
        module = self.env["ir.module.module"].search([("name", "=", self.addon)])
        module._update_translations(["de_DE"])
        return self.env[model].with_context(lang="de_DE")

    def test_the_template_has_every_text(self):
        if not has_table("llm"):  # the names of models that we extend are in it
            raise SkipTest(OF_ANOTHER_LLM + "that names its models as ours does")
        for addon in self._addons():
            with self.subTest(addon):
                exported = {entry.msgid for entry in export_template(self.env, addon)}
                template = polib.pofile(str(self._folder(addon) / f"{addon}.pot"))
                written = {entry.msgid for entry in template}
                self.assertEqual(sorted(exported - written), [], "Run make translate.")
                self.assertEqual(sorted(written - exported), [], "Run make translate.")

    def test_every_text_is_translated(self):
        for addon in self._addons():
            with self.subTest(addon):
                self.assertEqual(complaints(self._folder(addon), addon), [])
