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

    def test_queues_that_exist_keep_their_own(self):
        self._save(llm_generation_max_concurrent_jobs=2)
        self.assertEqual(self.queue.max_concurrent_jobs, 5)

    def test_the_settings_are_remembered(self):
        self._save(llm_generation_retention_days=30)
        settings = self.env["res.config.settings"].create({})
        self.assertEqual(settings.llm_generation_retention_days, 30)
        self.assertEqual(settings.llm_generation_max_concurrent_jobs, 5)
