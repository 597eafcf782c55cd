from odoo.addons.llm_generate_job.tests.translations import TranslationsCase


class TestTranslations(TranslationsCase):
    addon = "llm_generate_job_batch"

    def test_a_user_reads_them(self):
        batch = self._in_german("llm.generation.batch")
        self.assertEqual(batch.env._("%s generations", 3), "3 Generierungen")
        label = batch.fields_get(["done_at"])["done_at"]["string"]
        self.assertEqual(label, "Erledigt")
