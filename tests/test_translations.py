import tempfile
from pathlib import Path
from unittest import SkipTest

from odoo.tests import BaseCase

from .common import OF_ANOTHER_LLM
from .po_files import complaints
from .rights import has_table
from .translations import TranslationsCase

ENTRY = 'msgid "%s"\nmsgstr "%s"\n\n'


class TestTranslations(TranslationsCase):
    addon = "llm_generate_job"

    def _addons(self):
        """Return this addon, and those of its repository that are installed beside it."""
        modules = self.env["ir.module.module"].search([("state", "=", "installed")])
        own = modules.filtered(lambda module: module.name == self.addon)
        return modules.filtered(lambda module: module.author == own.author).mapped("name")

    def test_other_addons_of_the_repository_are_among_them(self):
        if not has_table("llm"):
            raise SkipTest(OF_ANOTHER_LLM + "that is of this repository")
        self.assertLessEqual({self.addon, "llm", "llm_thread", "llm_tool"}, {*self._addons()})

    def test_a_user_reads_them(self):
        job = self._in_german("llm.generation.job")
        self.assertEqual(job.env._("The generation failed."), "Die Generierung ist fehlgeschlagen.")
        label = job.fields_get(["priority"])["priority"]["string"]
        self.assertEqual(label, "Priorität")


class TestPoFiles(BaseCase):
    def _complaints(self, german, *, french=ENTRY % ("Wait %s", "Attente %s"), text="Wait %s"):
        """Return what is said of the files of an addon with one text."""
        with tempfile.TemporaryDirectory() as name:
            files = {"a.pot": ENTRY % (text, ""), "de.po": german, "fr.po": french}
            for file, entries in files.items():
                if entries is not None:
                    Path(name, file).write_text(ENTRY % ("", "") + entries, encoding="utf-8")
            return " ".join(complaints(Path(name), "a"))

    def test_a_translation_is_whole(self):
        for german, complaint in (
            (ENTRY % ("Wait %s", "Warten %s"), ""),
            ("", "is missing"),
            (None, "is not there"),
            (ENTRY % ("Wait %s", ""), "has no translation"),
            (ENTRY % ("Wait %s", "Warten"), "has other placeholders"),
            (ENTRY % ("Wait %s", "Warten %d"), "has other placeholders"),
            (ENTRY % ("Wait %s", "Wait %s"), "is still English"),
            (ENTRY % ("Wait %s", "Warten and %s"), "is still English"),
            ("#, fuzzy\n" + ENTRY % ("Wait %s", "Warten %s"), "is fuzzy"),
            (
                ENTRY % ("Wait %s", "Warten %s") + '#~ msgid "Go"\n#~ msgstr "Los"\n',
                "in no source any more",
            ),
            (ENTRY % ("Wait %s", "Warten %s") + ENTRY % ("Go", "Los"), "in no source any more"),
        ):
            with self.subTest(german=german):
                found = self._complaints(german)
                self.assertIn(complaint, found)
                self.assertEqual(bool(complaint), bool(found), found)

    def test_what_is_the_same_in_both_languages(self):
        for text, is_wrong in (("Name", False), ("res.partner", False), ("Wait", True)):
            with self.subTest(text):
                french = ENTRY % (text, "Attente")
                found = self._complaints(ENTRY % (text, text), french=french, text=text)
                self.assertEqual(bool(found), is_wrong, found)

    def test_words_that_are_said_otherwise(self):
        for text, instead in (
            ("The queue is disabled.", "pause"),
            ("Max Concurrent Jobs", "at the same time"),
            ("3 jobs at once", "at the same time"),
            ("Never. 0: never.", "0 means"),
            ("HTTP 400: no", "status"),
            ("Ended At", ""),
        ):
            with self.subTest(text):
                french = ENTRY % (text, "Attente")
                found = self._complaints(ENTRY % (text, "Warten"), french=french, text=text)
                self.assertIn(instead, found)
                self.assertEqual(bool(instead), bool(found), found)
