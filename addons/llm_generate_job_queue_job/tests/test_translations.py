from odoo.addons.llm_generate_job.tests.translations import TranslationsCase


class TestTranslations(TranslationsCase):
    addon = "llm_generate_job_queue_job"

    def test_a_user_reads_them(self):
        queue = self._in_german("llm.generation.queue")
        label = queue.fields_get(["executor"])["executor"]["string"]
        self.assertEqual(label, "Aufträge laufen in")
