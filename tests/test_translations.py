from .translations import TranslationsCase


class TestTranslations(TranslationsCase):
    addon = "llm_generate_job"

    def test_a_user_reads_them(self):
        job = self._in_german("llm.generation.job")
        self.assertEqual(job.env._("The generation failed."), "Die Generierung ist fehlgeschlagen.")
        label = job.fields_get(["priority"])["priority"]["string"]
        self.assertEqual(label, "Priorität")
