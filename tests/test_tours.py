from datetime import timedelta
from unittest.mock import patch

from odoo import fields
from odoo.tests import HttpCase, tagged

from ..controllers import event_stream
from ..exceptions import TransientError
from .common import TOUR_TIMEOUT, LlmGenerationCommon


@tagged("post_install", "-at_install")
class TestTours(LlmGenerationCommon, HttpCase):
    """What users and managers do in the browser. Jobs run inline, in the request that follows."""

    def _tour(self, path, name, user=None):
        self.start_tour(path, name, login=(user or self.user).login, timeout=TOUR_TIMEOUT)

    def _open_thread(self, tour, **values):
        self._needs_our_page()
        thread = self._create_thread(self.direct_model, **values)
        self._tour(f"/odoo/llm-threads/{thread.id}", tour)
        return thread

    def _bodies(self, thread):
        messages = thread.get_conversation()
        return [(message["llm_role"], str(message["body"])) for message in messages]

    def test_a_user_cancels_a_queued_job(self):
        mine = self._create_job("queued", thread_id=self._create_thread(name="Asked by me").id)
        self._create_job("queued", user=self.manager)

        self._tour("/odoo/llm-generation-jobs", "llm_generation_job_cancel_tour")

        self.assertEqual(mine.state, "cancelled")

    def test_a_manager_pauses_resumes_and_clears_a_queue(self):
        job = self._create_job("queued")

        self._tour(
            "/odoo/llm-generation-queues?view_type=kanban",
            "llm_generation_queue_manager_tour",
            self.manager,
        )

        self.assertTrue(self.queue.enabled)
        self.assertEqual(job.state, "cancelled")

    def test_a_manager_reads_figures_with_their_units(self):
        self._create_job("failed", max_retries=0).sudo().duration = 75

        self._tour("/odoo/llm-analysis", "llm_generation_manager_views_tour", self.manager)

    def test_json_is_checked_saved_and_shown(self):
        editor = self.env["ir.module.module"]._get("web_json_editor")
        self._needs(editor.state != "installed", "without web_json_editor, which edits JSON")
        job = self._create_job()

        self._tour(f"/odoo/llm-generation-jobs/{job.id}", "llm_generation_json_tour")

        self.assertEqual(job.generation_inputs, {"prompt": "Good day", "n": [1, 2]})
        self.assertEqual(job.state, "queued")

    def test_a_conversation_goes_through_the_queue(self):
        thread = self._open_thread("llm_generation_conversation_tour")

        self.assertRecordValues(
            thread.generation_job_ids, [{"state": "completed", "user_id": self.user.id}]
        )
        self.assertEqual(
            self._bodies(thread),
            [("user", "<p>How are you?</p>"), ("assistant", '<p dir="auto">Hello</p>')],
        )

    def test_a_waiting_answer_is_followed_and_cancelled(self):
        self.direct_queue.enabled = False

        thread = self._open_thread("llm_generation_conversation_cancel_tour")

        self.assertEqual(thread.generation_job_ids.mapped("state"), ["cancelled"])
        self.assertFalse(self.service.calls["chat"])

    def test_who_turns_to_another_thread_cancels_nothing(self):
        self._needs_our_page()
        self.direct_queue.enabled = False
        second, first = (
            self._create_thread(self.direct_model, name=name) for name in ("Second", "First")
        )

        with patch.object(event_stream.EventStream, "run") as stream:
            self._tour("/odoo/llm-threads", "llm_generation_conversation_leave_tour")

        stream.assert_not_called()  # a page that waits keeps no worker busy
        self.assertEqual((first + second).generation_job_ids.mapped("state"), ["queued"] * 2)

    def test_a_failed_answer_tells_its_reason_and_is_tried_again(self):
        self.direct_queue.auto_retry_failed = False
        reason = TransientError("At least one message is required.")

        def fail_once():
            del self.service.chunks[0]
            raise reason

        self.service.chunks.insert(0, fail_once)

        thread = self._open_thread("llm_generation_conversation_error_tour")

        job = thread.generation_job_ids
        self.assertRecordValues(job, [{"state": "completed", "retry_count": 1}])
        self.assertEqual(self._bodies(thread)[-1], ("assistant", '<p dir="auto">Hello</p>'))

    def test_how_an_answer_ended_is_told_after_a_reload_too(self):
        self._needs_our_page()
        for name, state in (("Second", "failed"), ("First", "cancelled")):
            thread = self._create_thread(self.direct_model, name=name)
            question = thread.message_post(body="How are you?", llm_role="user")
            job = self._create_job("queued", thread_id=thread.id, input_message_id=question.id)
            values = {
                "failed": {"error_type": "content_refused", "error_message": "No such pictures."}
            }
            job._set_state(state, **values.get(state, {}))

        self._tour("/odoo/llm-threads", "llm_generation_conversation_ended_tour")

    def test_what_is_retried_by_itself_is_tried_now_or_given_up(self):
        self._needs_our_page()
        jobs = self.env["llm.generation.job"]
        for name in ("Second", "First"):
            thread = self._create_thread(self.direct_model, name=name)
            question = thread.message_post(body="How are you?", llm_role="user")
            job = self._create_job("queued", thread_id=thread.id, input_message_id=question.id)
            job._set_state("failed", error_type="transient", error_message="Not now.")
            job.retry_at = fields.Datetime.now() + timedelta(minutes=1)
            jobs += job

        self._tour("/odoo/llm-threads", "llm_generation_conversation_retrying_tour")

        given_up, tried = jobs
        self.assertRecordValues(tried, [{"state": "completed", "retry_count": 1}])
        self.assertRecordValues(given_up, [{"state": "failed", "retry_at": False}])

    def test_a_thread_retries_what_failed_before(self):
        self._needs_our_page()
        thread = self._create_thread(self.direct_model)
        question = thread.message_post(body="How are you?", llm_role="user")
        job = self._create_job("failed", thread_id=thread.id, input_message_id=question.id)

        self._tour(f"{self._page_of_threads()}/{thread.id}", "llm_generation_thread_retry_tour")

        self.assertRecordValues(job, [{"state": "completed", "retry_count": 1}])


@tagged("post_install", "-at_install")
class TestPhone(LlmGenerationCommon, HttpCase):
    browser_size = "390x844"
    touch_enabled = True

    def test_a_phone_opens_jobs_on_what_runs_and_failed(self):
        for state in ("completed", "cancelled", "running", "queued", "failed"):
            job = self._create_job(state)
        job.sudo().error_type = "transient"
        self.start_tour(
            "/odoo/llm-generation-jobs",
            "llm_generation_phone_jobs_tour",
            login=self.user.login,
            timeout=TOUR_TIMEOUT,
        )
