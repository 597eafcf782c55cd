from datetime import timedelta
from urllib.parse import quote

from odoo import fields

from odoo.addons.llm_generate_job.exceptions import BadRequestError

from ..files import DOWNLOAD
from ..models.llm_provider import FILE_TRIES
from .common import PNG, LlmFalAiCommon, Reply, json_reply


class TestLlmProvider(LlmFalAiCommon):
    def test_a_job_is_submitted_with_its_inputs_and_our_address(self):
        job = self._submitted_job(generation_inputs={"prompt": "a cat", "seed": 5})

        (request,) = self.remote.requests
        self.assertEqual(request.path, "/fal-ai/flux/dev")
        self.assertEqual(request.json, {"prompt": "a cat", "seed": 5})
        self.assertEqual(request.query, {"fal_webhook": job._webhook_url()})
        self.assertEqual((job.state, job.external_job_id), ("running", "req-1"))
        base = f"{self.remote.url}/fal-ai/flux/requests/req-1"
        self.assertEqual(
            job.provider_data,
            {
                "request_id": "req-1",
                "response_url": base,
                "status_url": f"{base}/status",
                "cancel_url": f"{base}/cancel",
            },
        )

    def test_without_an_address_of_ours_none_is_given(self):
        self.env["ir.config_parameter"].set_param("web.base.url", "http://localhost:8069")
        self._submitted_job()

        self.assertEqual(self.remote.requests[0].query, {})

    def test_a_question_is_the_prompt_or_the_inputs(self):
        thread = self._create_thread(self.model)
        thread.enqueue_generation("A cat & a dog")
        self._process_queue(self.provider)
        message = thread.message_post(body="", body_json={"steps": 4}, llm_role="user")
        self._submitted_job(
            thread_id=thread.id, input_message_id=message.id, generation_inputs=False
        )

        self.assertEqual(
            [request.json for request in self.remote.requests],
            [{"prompt": "A cat & a dog"}, {"steps": 4}],
        )

    def test_files_become_attachments_of_the_answer(self):
        url = f"{self.remote.url}/files/cat.png"
        self.remote.output = {"images": [{"url": url, "content_type": "image/png"}], "seed": 5}

        job = self._completed_job()

        message = job.output_message_id
        self.assertEqual(job.state, "completed")
        self.assertRecordValues(
            message.attachment_ids,
            [
                {
                    "name": "cat.png",
                    "raw": PNG,
                    "mimetype": "image/png",
                    "res_model": "llm.thread",
                    "res_id": job.thread_id.id,
                }
            ],
        )
        self.assertEqual(message.body_json, self.remote.output)
        self.assertEqual(message.attachment_ids.create_uid, self.user)
        self.assertNotIn("authorization", self.remote.requests[-1].headers)

    def test_a_file_that_is_not_kept_is_told_and_the_answer_counts(self):
        url = f"{self.remote.url}/files/evil.html"
        self.remote.files["/files/evil.html"] = Reply(200, b"<html>", "text/html")
        self.remote.output = {
            "files": [{"url": url}, {"url": "http://10.0.0.1/<b>x.png"}],
            "text": "<script>x()</script>",
        }

        job = self._completed_job()

        body = job.output_message_id.body
        self.assertEqual(job.state, "completed")
        self.assertEqual(job.output_message_id.attachment_ids.mapped("mimetype"), [DOWNLOAD])
        self.assertIn("&lt;script&gt;", body)
        self.assertIn("is not kept: address not allowed", body)
        self.assertNotIn("<b>", body)
        self.assertNotIn("href", body)

    def test_a_file_that_cannot_be_fetched_now_is_fetched_later(self):
        url = f"{self.remote.url}/files/cat.png"
        self.remote.output = {"image": {"url": url}}
        job = self._submitted_job()
        self.remote.state = "completed"
        good, self.remote.files = self.remote.files, {"/files/cat.png": Reply(503, b"{}")}

        self._engine()._check_due()
        self.assertEqual((job.state, job.thread_id.message_ids.attachment_ids.ids), ("running", []))
        self.remote.files = good
        self._engine()._check_due()

        self.assertEqual(job.state, "completed")
        self.assertEqual(len(job.output_message_id.attachment_ids), 1)
        self.assertEqual(self.remote.submitted, 1)

    def test_the_place_in_the_line_and_the_progress_are_shown(self):
        job = self._submitted_job()
        self.remote.state = "queued"
        self._engine()._check_due()
        self.assertEqual(job.provider_data["queue_position"], 2)

        self.remote.state, self.remote.logs = "running", [" 40%|####      | 12/30"]
        self._engine()._check_due()

        self.assertEqual((job.state, job.progress), ("running", 40.0))
        self.assertEqual(self.remote.requests[-1].query, {"logs": "1"})
        self.assertTrue(job.result_expires_at)

    def test_a_failure_is_told_in_its_words(self):
        job = self._submitted_job()
        self.remote.state = "failed"
        self.remote.failure = {"error": "No runner.", "error_type": "runner_scheduling_failure"}

        self._engine()._check_due()

        self.assertEqual(
            (job.state, job.error_type, job.error_message), ("queued", "overloaded", "No runner.")
        )

    def test_a_result_that_is_gone_is_asked_for_again_by_a_retry(self):
        job = self._submitted_job()
        self.remote.is_gone = True

        self._engine()._check_due()

        self.assertEqual((job.state, job.error_type), ("failed", "provider_failed"))
        self.assertTrue(job.retry_at)

    def test_cancelling_what_has_ended_or_is_unknown_is_no_error(self):
        job = self._submitted_job()
        self.remote.state = "completed"
        self.assertFalse(self.provider.cancel_generation_job(job))
        self.remote.is_gone = True
        self.assertFalse(self.provider.cancel_generation_job(job))

    def test_an_answer_of_the_submission_that_was_overtaken_keeps_its_addresses(self):
        job = self._create_job("queued", model=self.model)
        claim = self._claim(job)
        (job_context,) = self._engine()._prefetch([claim])
        job.action_cancel()

        self._engine()._run(job_context)

        self.assertEqual(job.provider_data["request_id"], "req-1")
        self._engine()._cancel_at_providers()
        self.assertEqual(self.remote.requests[-1].path, "/fal-ai/flux/requests/req-1/cancel")

    def test_addresses_of_another_request_are_not_used(self):
        job = self._submitted_job()
        job.external_job_id = "req-77"

        self._engine()._check_due()

        self.assertEqual(self.remote.requests[-1].path, "/fal-ai/flux/requests/req-77/status")

    def _ask_until_it_ends(self, job):
        """Ask about a job as often as it takes, and return how often that is."""
        polls = 0
        while job.state == "running" and polls < 50:
            job.next_poll_at = fields.Datetime.now() - timedelta(seconds=1)
            self._engine()._check_due()
            polls += 1
        return polls

    def test_a_file_that_cannot_be_had_is_asked_for_a_bounded_number_of_times(self):
        url = f"{self.remote.url}/files/cat.png"
        self.remote.output = {"images": [{"url": url, "file_name": "cat.png"}]}
        self.remote.files["/files/cat.png"] = Reply(503)
        job = self._submitted_job()
        self.remote.state = "completed"
        polls = self._ask_until_it_ends(job)

        self.assertEqual((job.state, polls), ("completed", FILE_TRIES + 1))
        self.assertEqual(self.remote.count("GET", "/files/"), FILE_TRIES + 1)
        self.assertIn("cat.png</a> is not kept: out of reach.", job.output_message_id.body)
        self.assertFalse(job.output_message_id.attachment_ids)

    def test_a_model_that_refuses_says_so_in_its_result(self):
        told = {"loc": ["body"], "msg": "Not allowed.", "type": "content_policy_violation"}
        self.remote.refusal = json_reply({"detail": [told]}, 422)
        job = self._submitted_job()
        self.remote.state = "completed"

        self._engine()._check_due()

        self.assertEqual((job.state, job.error_type), ("failed", "content_refused"))
        self.assertFalse(job.retry_at)
        self.assertEqual(self.remote.submitted, 1)

    def test_a_result_that_cannot_be_had_is_asked_for_a_bounded_number_of_times(self):
        self.remote.refusal = Reply(500)
        job = self._submitted_job()
        self.remote.state = "completed"
        polls = self._ask_until_it_ends(job)

        self.assertEqual((job.state, polls), ("failed", FILE_TRIES + 1))
        self.assertEqual(job.error_type, "provider_failed")

    def test_a_file_that_comes_after_all_is_kept(self):
        url = f"{self.remote.url}/files/cat.png"
        self.remote.output = {"images": [{"url": url}]}
        picture = self.remote.files.pop("/files/cat.png")
        self.remote.files["/files/cat.png"] = Reply(503)
        job = self._submitted_job()
        self.remote.state = "completed"
        self._engine()._check_due()
        self.assertEqual((job.state, job.provider_data["file_tries"]), ("running", 1))

        self.remote.files["/files/cat.png"] = picture
        job.next_poll_at = fields.Datetime.now() - timedelta(seconds=1)
        self._engine()._check_due()

        self.assertEqual(job.state, "completed")
        self.assertEqual(len(job.output_message_id.attachment_ids), 1)

    def test_what_a_browser_would_run_is_served_as_a_download(self):
        svg = b'<svg xmlns="http://www.w3.org/2000/svg"><script>x()</script></svg>'
        self.remote.files["/files/a.svg"] = Reply(200, svg, "image/svg+xml")
        self.remote.output = {"images": [{"url": f"{self.remote.url}/files/a.svg"}]}

        job = self._completed_job()

        attachment = job.output_message_id.attachment_ids
        self.assertEqual((attachment.raw, attachment.mimetype), (svg, DOWNLOAD))

    def test_a_name_of_a_model_does_not_lead_to_another_address(self):
        for name in ("fal-ai/a?b=c", "fal-ai/a#b", "fal-ai/%2e%2e/x", "fal-ai/a b", "fal-ai/..\\x"):
            self.remote.requests.clear()
            self.model.name = name
            job = self._create_job("queued", model=self.model)
            with self.subTest(name=name):
                self.provider.create_generation_job(job)

                (request,) = self.remote.requests
                self.assertEqual(request.path, "/" + quote(name))

    def test_a_name_that_climbs_is_refused(self):
        for name in ("../admin", "fal-ai/../../admin", "fal-ai/./a", "fal-ai//a", "..", "/"):
            self.model.name = name
            job = self._create_job("queued", model=self.model)
            with self.subTest(name=name), self.assertRaises(BadRequestError):
                self.provider.create_generation_job(job)
        self.assertFalse(self.remote.requests)

    def test_an_id_does_not_lead_to_another_address(self):
        job = self._create_job("running", model=self.model)
        client = self.provider._fal_ai_client()
        base = f"{self.remote.url}/fal-ai/flux/requests"
        for name in ("../files/abc", "a?b=c", "a#b", "%2e%2e"):
            job.external_job_id = name
            with self.subTest(name=name):
                address = self.provider._fal_ai_address(job, "status_url", client)
                self.assertEqual(address, f"{base}/{quote(name, safe='')}/status")
        job.external_job_id = ".."
        with self.assertRaises(BadRequestError):
            self.provider._fal_ai_address(job, "cancel_url", client)
