from odoo.tests import HttpCase, tagged

from .common import TOUR_TIMEOUT, LlmGenerationCommon


@tagged("post_install", "-at_install")
class TestPeopleTours(LlmGenerationCommon, HttpCase):
    """Bulk actions, live views, notifications, settings: as user and as manager, in a browser."""

    def _tour(self, path, name, user=None):
        self.start_tour(path, name, login=(user or self.user).login, timeout=TOUR_TIMEOUT)

    def _job(self, state, name, **values):
        return self._create_job(state, thread_id=self._create_thread(name=name).id, **values)

    def test_a_manager_retries_many_and_is_told_what_could_not_be(self):
        mendable = self._job("failed", "Mendable") + self._job("failed", "Mendable")
        mendable += self._job("failed", "Mendable", max_retries=0)
        refused = self._job("failed", "Refused")
        refused.error_type = "content_refused"
        done = self._job("completed", "Done")

        self._tour("/odoo/llm-generation-jobs", "llm_generation_bulk_retry_tour", self.manager)

        self.assertEqual(mendable.mapped("state"), ["queued"] * 3)
        self.assertEqual((refused + done).mapped("state"), ["failed", "completed"])

    def test_a_manager_retries_a_whole_filter(self):
        thread = self._create_thread(name="Many")
        jobs = self.env["llm.generation.job"].create([
            {"thread_id": thread.id, "state": "failed"} for _number in range(90)
        ])
        # Fewer than there are: the rest of the filter is meant, too.
        self.env["ir.config_parameter"].set_param("web.active_ids_limit", "85")

        self._tour("/odoo/llm-generation-jobs", "llm_generation_bulk_filter_tour", self.manager)

        self.assertEqual(set(jobs.mapped("state")), {"queued"})

    def test_a_manager_changes_a_priority_and_cancels(self):
        job = self._job("queued", "Waiting")

        self._tour("/odoo/llm-generation-jobs", "llm_generation_bulk_priority_tour", self.manager)

        self.assertRecordValues(job, [{"priority": 2, "state": "cancelled"}])

    def test_a_user_finds_only_buttons_that_work(self):
        self._job("queued", "Mine")
        self._tour("/odoo/llm-generation-jobs", "llm_generation_job_user_tour")

    def test_a_retry_that_cannot_help_says_what_would(self):
        self._job("failed", "Mendable")
        refused = self._job("failed", "Refused")
        refused.error_type = "content_refused"
        self._tour("/odoo/llm-generation-jobs", "llm_generation_dimmed_retry_tour")
        self.assertEqual(refused.state, "failed")

    def test_a_list_follows_what_happens_elsewhere(self):
        self._job("queued", "Mine")
        self._tour("/odoo/llm-generation-jobs", "llm_generation_live_list_tour")

    def test_who_looks_elsewhere_is_told_that_the_answer_is_ready(self):
        self._needs_our_page()

        def answer_now(jobs):
            thread = jobs.sudo().thread_id
            message = thread.message_post(body="Here it is.", llm_role="assistant", author_id=False)
            return jobs.sudo().action_complete(message)

        job = self._job("running", "Far away")

        with self._offered("llm.generation.job", answer_now=answer_now):
            self._tour("/odoo/llm-generation-jobs", "llm_generation_notification_tour")

        self.assertEqual(job.state, "completed")

    def test_a_running_answer_is_cancelled_from_its_thread(self):
        self._needs_our_page()
        job = self._job("running", "Long story")

        self._tour(self._page_of_threads(), "llm_generation_thread_cancel_running_tour")

        self.assertEqual(job.state, "cancelled")

    def test_an_administrator_sets_the_defaults(self):
        action = self.env.ref("llm_generate_job.res_config_settings_action")

        self.start_tour(f"/odoo/action-{action.id}", "llm_generation_settings_tour", login="admin")

        parameters = self.env["ir.config_parameter"].sudo()
        self.assertEqual(parameters.get_param("llm_generate_job.max_concurrent_jobs"), "7")
        self.assertEqual(parameters.get_param("llm_generate_job.max_retries"), "0")
        self.assertEqual(parameters.get_param("llm_generate_job.always_queue"), "True")

    def test_a_manager_sets_limits_and_a_secret(self):
        self._tour(
            f"/odoo/llm-generation-queues/{self.queue.id}",
            "llm_generation_queue_form_tour",
            self.manager,
        )

        self.assertRecordValues(
            self.queue, [{"max_concurrent_jobs": 3, "webhook_secret": "whsec_c2VjcmV0"}]
        )
        self.assertEqual(self.queue.model_limit_ids.model_id, self.native_model)
