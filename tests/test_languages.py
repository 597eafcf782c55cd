from datetime import timedelta

from odoo import fields
from odoo.tests import new_test_user
from odoo.tools import mute_logger

from ..exceptions import RateLimitedError
from ..protocol.answer import Answer
from .common import ADDON, LlmGenerationCommon

LIVENESS = f"{ADDON}.engine.liveness"


class TestLanguages(LlmGenerationCommon):
    """What the engine stores for people to read is in the language of who reads it."""

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.env["res.lang"]._activate_lang("de_DE")
        module = cls.env["ir.module.module"].search([("name", "=", "llm_generate_job")])
        module._update_translations(["de_DE"])
        cls.user.lang = cls.manager.lang = "de_DE"

    def test_an_owner_reads_of_a_timeout(self):
        self.queue.job_timeout = 60
        job = self._create_job("running")
        job.started_at -= timedelta(seconds=61)
        self._engine()._fail_overdue()
        self.assertEqual(job.error_type, "timeout")
        self.assertIn("Keine Antwort innerhalb von 60 Sekunden", job.error_message)

    def test_an_owner_reads_of_a_dead_server(self):
        job = self._create_job("running")
        with mute_logger(LIVENESS):
            self._engine()._rescue_job(job, external=False)
        self.assertEqual(job.error_type, "worker_died")
        self.assertIn("Serverprozess", job.error_message)

    def test_an_owner_reads_of_a_refusal(self):
        job = self._create_job("queued")
        job.thread_id.sudo().user_id = self.manager
        self._process_queue()
        self.assertEqual(job.error_type, "access")
        self.assertIn("nicht mehr", job.error_message)
        self.user.active = False
        self.env.flush_all()
        job = self._create_job("queued")
        self._process_queue()
        self.assertIn("archiviert", job.error_message)

    def test_an_owner_reads_of_an_answer_that_is_none(self):
        failures = {
            "ohne": {"create": [{"state": "queued"}]},
            "keine ist": {"create": ["i" * 1001]},
            "keine Antwort ist": {"create": [UnicodeDecodeError("utf-8", b"\xff", 0, 1, "odd")]},
            "Festplatte": {"create": [OSError(28, "No space left on device")]},
        }
        for words, answers in failures.items():
            with self.subTest(words):
                self.service.answers.update(answers)
                job = self._create_job("queued", max_retries=0)
                self._process_queue()
                self.assertIn(words, job.error_message)
                self.queue.paused_until = False

    def test_an_owner_reads_of_an_odd_wait(self):
        error = RateLimitedError("Slowly.", retry_after=86_400_000)
        self.service.answers["create"] = [error]
        job = self._create_job("queued")
        self._process_queue()
        self.assertEqual(job.state, "queued")
        self.assertIn("Slowly. Der Anbieter", job.error_message)

    def test_an_owner_reads_of_an_answer_without_a_word(self):
        endings = {
            "length": "vor ihrem ersten Wort",
            "content_filter": "Ein Filter des Anbieters",
            "refusal": "Das Modell lehnt es ab",
        }
        for told, words in endings.items():
            with self.subTest(told):
                self.service.chunks = [{"finish_reason": told}]
                job = self._create_job("queued", self.direct_model)
                self._process_queue(self.direct)
                self.assertEqual((job.state, job.finish_reason), ("failed", told))
                self.assertIn(words, job.error_message)

    def test_each_manager_is_told_in_a_language_of_their_own(self):
        other = new_test_user(self.env, "generation_english", "llm.group_llm_manager")
        self._create_job("running")
        engine = self._engine()
        engine._tell_of_refusal(self.queue, "quota")
        with mute_logger(LIVENESS):
            engine._hold_queues()
        told = {
            manager: " ".join(
                self.queue.activity_ids.filtered(
                    lambda one, manager=manager: one.user_id == manager
                ).mapped("summary")
            )
            for manager in (self.manager, other)
        }
        self.assertIn("Der Anbieter", told[self.manager])
        self.assertIn("kopierten Datenbank", told[self.manager])
        self.assertIn("The provider refuses our account: Quota", told[other])
        self.assertIn("copied database", told[other])

    def test_what_waits_says_so_in_the_language_of_who_looks(self):
        later = self._create_job("queued", scheduled_at=fields.Datetime.now() + timedelta(days=1))
        mine = later.with_user(self.user).with_context(lang="de_DE")
        self.assertIn("Wartet bis", mine._status_sentence())

    def test_words_of_a_provider_stay_what_they_are(self):
        job = self._create_job("running")
        claim = self._claim_of(job, job.attempt_token)
        answer = Answer("failed", error_type="bad_request", error_message="Not so.")
        self._engine()._apply([(claim, answer)])
        self.assertEqual(job.error_message, "Not so.")
