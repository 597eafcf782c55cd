from unittest.mock import patch

from odoo.exceptions import ConcurrencyError

from .common import LlmGenerationCommon


class TestLlmGenerationFarewell(LlmGenerationCommon):
    """A thread is deleted under its jobs."""

    def _accepted(self):
        job = self._create_job("running")
        claim = self._claim_of(job, job.attempt_token)
        answer = self._answer("running", external_job_id="ext-1", provider_data={"url": "there"})
        self._engine("verdict")._apply([(claim, answer)])
        return job

    def test_the_jobs_go_with_their_thread(self):
        jobs = self._create_job("queued") + self._create_job("running")
        jobs.thread_id.unlink()
        self.assertFalse(jobs.exists())
        self.assertEqual(self._process_queue(), 0)

    def test_the_provider_is_told_of_what_it_runs(self):
        job = self._accepted()
        job.thread_id.unlink()
        self.assertEqual(self.service.calls["cancel"], [job.id])

    def test_the_provider_is_told_when_the_job_is_no_more(self):
        job, told = self._accepted(), []

        def cancel(_provider, job):
            told.append((job.external_job_id, job.provider_data, job.model_id))
            return True

        with patch.object(type(self._engine("upkeep")), "_cancel_at_providers", lambda _self: 0):
            self.env["llm.generation.farewell"]._stop(job.ids)
        job.unlink()
        self.assertFalse(self.service.calls["cancel"])
        self.assertEqual(self._engine("upkeep")._next_due(), 0)
        with self._offered(fakenative_cancel_generation_job=cancel):
            self._engine("upkeep")._cancel_at_providers()
            self._engine("upkeep")._cancel_at_providers()
        self.assertEqual(told, [("ext-1", {"url": "there"}, self.native_model)])
        self.assertFalse(self.env["llm.generation.farewell"].search([]))

    def test_a_job_whose_owner_was_archived_is_given_up_at_the_provider(self):
        job = self._accepted()
        self.user.active = False
        self._engine("upkeep")._check_due()
        self.assertEqual((job.state, job.error_type), ("failed", "access"))
        self.assertIn("archived", job.error_message)
        self.assertEqual(self.service.calls["cancel"], [job.id])
        self.assertFalse(self.service.calls["check"])

    def test_a_request_that_stopped_an_answer_is_repeated(self):
        job = self._create_job("running")
        farewell = self.env["llm.generation.farewell"]
        inline = type(self._engine())._transaction

        def transaction(engine, **options):
            return inline(engine.with_context(generation_inline=True), **options)

        with (
            patch.object(type(self._engine()), "_transaction", transaction),
            self.assertRaises(ConcurrencyError),
        ):
            farewell.with_context(generation_inline=False)._take_leave(job.thread_id)
