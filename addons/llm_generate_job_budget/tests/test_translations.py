from odoo.addons.llm_generate_job.tests.translations import TranslationsCase


class TestTranslations(TranslationsCase):
    addon = "llm_generate_job_budget"

    def test_a_user_reads_them(self):
        job = self._in_german("llm.generation.job")
        self.assertEqual(job.env._("an administrator"), "die Administration")
        label = job.fields_get(["budget_left"])["budget_left"]["string"]
        self.assertEqual(label, "Verbleibendes Budget")
