from datetime import timedelta
from unittest.mock import patch

import psycopg2

from odoo import fields
from odoo.tools import mute_logger

from .common import LlmGenerationCommon


class TestDeletion(LlmGenerationCommon):
    """A thread or a job is deleted; what runs at a provider is told it first."""

    def setUp(self):
        super().setUp()
        # Not each `llm_thread` lets the owner delete a conversation.
        self.deleter = (
            self.user
            if self.env["llm.thread"].with_user(self.user).has_access("unlink")
            else self.manager
        )

    def _accepted(self):
        job = self._create_job("running")
        claim = self._claim_of(job, job.attempt_token)
        answer = self._answer("running", external_job_id="ext-1", provider_data={"url": "there"})
        self._engine()._apply([(claim, answer)])
        return job

    def _cancelled_untold(self):
        """Return a job that was cancelled, and whose provider was not told yet."""
        job = self._accepted()
        with patch.object(type(self._engine()), "_cancel_at_providers", lambda _self: 0):
            job.action_cancel()
        self.assertTrue(job.cancel_requested)
        return job

    def test_what_waits_goes_with_its_thread(self):
        thread = self._create_thread()
        jobs = self.env["llm.generation.job"].concat(
            *(self._create_job(state, thread_id=thread.id) for state in ("draft", "queued"))
        )
        thread.with_user(self.deleter).unlink()
        self.assertFalse(jobs.exists() or thread.exists())
        self.assertEqual(self._process_queue(), 0)

    def test_a_thread_is_not_deleted_while_an_answer_is_made(self):
        for job in (self._create_job("running"), self._accepted()):
            thread, question = job.thread_id, job.thread_id.message_post(body="Hello")
            refusal = self._refusal(thread.with_user(self.deleter).unlink)
            self.assertIn("Cancel it first", refusal)
            self.assertTrue(job.exists() and thread.exists() and question.exists())
            self.assertEqual(job.state, "running")
            job.with_user(self.user).action_cancel()
            thread.with_user(self.deleter).unlink()
            self.assertFalse(job.exists() or thread.exists())
        self.assertEqual(len(self.service.calls["cancel"]), 1)

    def test_a_question_that_is_withdrawn_is_not_asked(self):
        for withdraw in ("unlink", "empty"):
            with self.subTest(withdraw):
                threads = [self._create_thread(self.direct_model) for _number in range(2)]
                begun, waits = (thread.enqueue_generation("Yes?") for thread in threads)
                self._claim(begun)
                retry = {"error_type": "transient", "retry_at": fields.Datetime.now()}
                begun.sudo()._set_state("failed", **retry)
                for job in waits + begun:
                    thread, question = job.thread_id.sudo(), job.input_message_id.sudo()
                    if withdraw == "unlink":
                        question.unlink()
                    else:
                        thread._message_update_content(question, body="", attachment_ids=[])
                self.assertEqual((waits.state, begun.state), ("cancelled", "failed"))
                self.assertFalse(begun.retry_at)
        self.assertEqual(self._process_queue(self.direct), 0)
        self.assertFalse(self.service.calls["chat"])

    def test_another_message_that_is_deleted_ends_no_job(self):
        thread = self._create_thread()
        said = thread.message_post(body="A note")
        job = thread.enqueue_generation("Yes?")
        said.unlink()
        self.user.partner_id.message_post(body="A note").unlink()
        self.assertEqual(job.state, "queued")

    def test_a_provider_takes_with_it_what_is_about_its_queue(self):
        provider, _model = self._create_provider("Gone", "fakenative")
        queue = self.env["llm.generation.queue"]._get_or_create_queue(provider).sudo()
        queue.activity_schedule(user_id=self.manager.id, summary="Top it up")
        queue.message_post(body="It was refused.")
        about = [("res_model", "=", queue._name), ("res_id", "=", queue.id)]
        said = [("model", "=", queue._name), ("res_id", "=", queue.id)]
        self.assertTrue(self.env["mail.activity"].search(about))
        provider.unlink()
        self.assertFalse(self.env["mail.activity"].search(about))
        self.assertFalse(self.env["mail.message"].search(said))

    def test_a_company_with_providers_and_jobs_is_not_deleted(self):
        company = self.env["res.company"].create({"name": "Closing"})
        job = self._create_job("completed")
        for record in (self.native, job):
            with self.subTest(record._name):
                record.company_id = company
                self.env.flush_all()
                with (
                    mute_logger("odoo.sql_db"),
                    self.assertRaises(psycopg2.IntegrityError),
                    self.env.cr.savepoint(),
                ):
                    company.unlink()
                self.env.invalidate_all()
                record.company_id = self.env.company
                self.assertTrue(company.exists())

    def test_nothing_is_deleted_before_its_provider_was_told(self):
        job = self._cancelled_untold()
        self.assertEqual(self._engine()._next_due(), 0)
        for record in (job, job.thread_id):
            self.assertIn("in a minute", self._refusal(record.unlink))
        job.completed_at = fields.Datetime.now() - timedelta(days=99)
        self._engine()._clean_up()
        self.assertTrue(job.exists())

        self._engine()._cancel_at_providers()

        self.assertEqual(self.service.calls["cancel"], [job.id])
        self._engine()._clean_up()
        self.assertFalse(job.exists())

    def test_a_job_whose_owner_was_archived_is_given_up_at_the_provider(self):
        job = self._accepted()
        self.user.active = False
        self._engine()._check_due()
        self.assertEqual((job.state, job.error_type), ("failed", "access"))
        self.assertIn("archived", job.error_message)
        self.assertEqual(self.service.calls["cancel"], [job.id])
        self.assertFalse(self.service.calls["check"])
