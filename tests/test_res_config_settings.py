from odoo.exceptions import ValidationError

from .common import LlmGenerationCommon


class TestResConfigSettings(LlmGenerationCommon):
    def _save(self, **values):
        self.env["res.config.settings"].create(values).execute()

    def test_new_queues_start_with_the_settings(self):
        self._save(
            llm_generation_max_concurrent_jobs=2,
            llm_generation_retry_delay_minutes=0.5,
            llm_generation_job_timeout=60,
        )
        provider, _model = self._create_provider("New", "fakedirect")
        queue = self.env["llm.generation.queue"]._get_or_create_queue(provider)
        self.assertRecordValues(
            queue, [{"max_concurrent_jobs": 2, "retry_delay_minutes": 0.5, "job_timeout": 60}]
        )

    def test_new_queues_are_used_always_where_the_settings_say_so(self):
        provider, _model = self._create_provider("Idle", "fakedirect")
        queue = self.env["llm.generation.queue"]._get_or_create_queue(provider)
        self.assertFalse(queue.always_queue)

        self._save(llm_generation_always_queue=True)
        provider, _model = self._create_provider("New", "fakedirect")
        queue = self.env["llm.generation.queue"]._get_or_create_queue(provider)

        self.assertTrue(queue.always_queue)
        self.assertFalse(self.queue.always_queue)

    def test_new_jobs_have_the_retries_of_the_settings(self):
        before = self._create_job()
        self._save(llm_generation_max_retries=1)
        self.assertEqual(self._create_job().max_retries, 1)
        self.assertEqual(self._create_job(max_retries=2).max_retries, 2)
        self.assertEqual(before.max_retries, 3)

    def test_no_retries_can_be_wanted(self):
        self._save(llm_generation_max_retries=0)
        self.assertEqual(self._create_job().max_retries, 0)
        self.assertEqual(self.env["res.config.settings"].create({}).llm_generation_max_retries, 0)

    def test_settings_that_no_queue_could_have_are_refused(self):
        refused = {
            "llm_generation_max_concurrent_jobs": 0,
            "llm_generation_retention_days": 0,
            "llm_generation_max_retries": -1,
            "llm_generation_job_timeout": -1,
            "llm_generation_retry_delay_minutes": -0.5,
        }
        for name, value in refused.items():
            with self.subTest(name), self.assertRaises(ValidationError):
                self._save(**{name: value})

    def test_queues_that_exist_keep_their_own(self):
        self._save(llm_generation_max_concurrent_jobs=2)
        self.assertEqual(self.queue.max_concurrent_jobs, 5)

    def test_the_settings_are_remembered(self):
        self._save(llm_generation_retention_days=30)
        settings = self.env["res.config.settings"].create({})
        self.assertEqual(settings.llm_generation_retention_days, 30)
        self.assertEqual(settings.llm_generation_max_concurrent_jobs, 5)
