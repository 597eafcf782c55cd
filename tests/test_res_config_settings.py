from odoo import fields
from odoo.exceptions import ValidationError

from ..const import LAST_ID
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
        name = f"New {self.env['llm.provider'].search_count([])}"
        provider, _model = self._create_provider(name, "fakedirect")
        queue = self.env["llm.generation.queue"]._get_or_create_queue(provider)
        self.assertRecordValues(
            queue, [{"max_concurrent_jobs": 2, "retry_delay_minutes": 0.5, "job_timeout": 60}]
        )

    def test_new_queues_are_used_always_where_the_settings_say_so(self):
        provider, _model = self._create_provider("Idle", "fakedirect")
        queue = self.env["llm.generation.queue"]._get_or_create_queue(provider)
        self.assertFalse(queue.always_queue)

        self._save(llm_generation_always_queue=True)
        name = f"New {self.env['llm.provider'].search_count([])}"
        provider, _model = self._create_provider(name, "fakedirect")
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

    # === PARAMETERS THAT SOMEBODY WROTE BY HAND === #

    def _set(self, name, text):
        self.env["ir.config_parameter"].set_param(f"llm_generate_job.{name}", text)

    def _new_queue(self):
        name = f"New {self.env['llm.provider'].search_count([])}"
        provider, _model = self._create_provider(name, "fakedirect")
        return self.env["llm.generation.queue"]._get_or_create_queue(provider)

    def test_a_word_for_no_means_no(self):
        for text in ("False", "false", "0", "no", "off", "", " ", "f", "maybe"):
            with self.subTest(text):
                self._set("always_queue", text)
                self.assertFalse(self._new_queue().always_queue)
                settings = self.env["res.config.settings"].create({})
                self.assertFalse(settings.llm_generation_always_queue)

    def test_a_word_for_yes_means_yes(self):
        for text in ("True", "true", "1", "yes", "on"):
            with self.subTest(text):
                self._set("always_queue", text)
                self.assertTrue(self._new_queue().always_queue)
                settings = self.env["res.config.settings"].create({})
                self.assertTrue(settings.llm_generation_always_queue)

    def test_a_number_that_is_none_is_the_default(self):
        for text in ("many", "", " ", "nan", "1,5", "None", "False"):
            with self.subTest(text):
                for name in ("max_concurrent_jobs", "retry_delay_minutes", "job_timeout"):
                    self._set(name, text)
                self._set("max_retries", text)
                self._set("retention_days", text)
                self._set("runner_slots", text)
                self.assertRecordValues(
                    self._new_queue(),
                    [{"max_concurrent_jobs": 5, "retry_delay_minutes": 5, "job_timeout": 1800}],
                )
                self.assertEqual(self._create_job().max_retries, 3)
                self.assertEqual(self._engine()._runner_slots(64), 64)
                age = fields.Datetime.now() - self._engine()._kept_since()
                self.assertAlmostEqual(age.total_seconds(), 7 * 86_400, delta=20)

    def test_a_number_beyond_its_range_is_the_nearest_within(self):
        expected = {"-3": (1, 0, 1), "0": (1, 0, 1), "inf": (None, 100, 36_500)}
        for text, (jobs, retries, days) in expected.items():
            with self.subTest(text):
                self._set("max_concurrent_jobs", text)
                self._set("job_timeout", text)
                self._set("max_retries", text)
                self._set("retention_days", text)
                queue = self._new_queue()
                self.assertEqual(queue.max_concurrent_jobs, jobs or LAST_ID)
                self.assertEqual(queue.job_timeout, 0 if jobs else LAST_ID)
                self.assertEqual(self._create_job().max_retries, retries)
                age = fields.Datetime.now() - self._engine()._kept_since()
                self.assertAlmostEqual(age.total_seconds(), days * 86_400, delta=20)

    def test_a_number_may_be_written_otherwise(self):
        self._set("max_concurrent_jobs", " 7.0 ")
        self._set("retry_delay_minutes", "2.5")
        self.assertRecordValues(
            self._new_queue(), [{"max_concurrent_jobs": 7, "retry_delay_minutes": 2.5}]
        )

    def test_queues_that_exist_keep_their_own(self):
        self._save(llm_generation_max_concurrent_jobs=2)
        self.assertEqual(self.queue.max_concurrent_jobs, 5)

    def test_the_settings_are_remembered(self):
        self._save(llm_generation_retention_days=30)
        settings = self.env["res.config.settings"].create({})
        self.assertEqual(settings.llm_generation_retention_days, 30)
        self.assertEqual(settings.llm_generation_max_concurrent_jobs, 5)

    def test_parameters_are_shown_and_kept_as_they_are_read(self):
        self._set("max_concurrent_jobs", " 7.0 ")
        self._set("max_retries", "3.0")
        self._set("retention_days", "0")
        settings = self.env["res.config.settings"].create({})
        self.assertEqual(settings.llm_generation_retention_days, 1)
        settings.execute()
        self.assertEqual(self.env["llm.generation.queue"]._default_setting("max_retries", 9), 3)
        self.assertEqual(
            self.env["llm.generation.queue"]._default_setting("max_concurrent_jobs", 9), 7
        )
