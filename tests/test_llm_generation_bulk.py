from unittest.mock import Mock, patch

from odoo.exceptions import AccessError
from odoo.tests import users

from ..engine import complete
from ..models.llm_generation_job import SELECTION_LIMIT
from .common import LlmGenerationCommon


class TestLlmGenerationBulk(LlmGenerationCommon):
    def test_what_can_be_retried_is_and_the_rest_is_explained_by_reason(self):
        failed = self._create_job("failed") + self._create_job("failed")
        spent = self._create_job("failed", max_retries=0)
        done = self._create_job("completed")

        result = (failed + spent + done).with_user(self.manager).apply_bulk("retry")

        self.assertEqual(result, {"done": 3, "refused": {"did not fail": 1}})
        self.assertEqual((failed + spent).mapped("state"), ["queued"] * 3)
        self.assertEqual(done.state, "completed")

    def test_a_user_retries_as_often_as_there_are_retries(self):
        failed, spent = self._create_job("failed"), self._create_job("failed", max_retries=0)
        result = (failed + spent).with_user(self.user).apply_bulk("retry")
        self.assertEqual(result, {"done": 1, "refused": {"no retry is left": 1}})
        self.assertEqual((failed + spent).mapped("state"), ["queued", "failed"])

    def test_what_would_be_refused_again_is_left(self):
        refused = self._create_job("failed") + self._create_job("failed")
        for job, error in zip(refused, ("content_refused", "bad_request"), strict=True):
            job.sudo().error_type = error
        result = refused.with_user(self.user).apply_bulk("retry")
        self.assertEqual(result, {"done": 0, "refused": {"would be refused again": 2}})
        result = refused.with_user(self.manager).apply_bulk("retry")  # who may have mended it
        self.assertEqual(result, {"done": 1, "refused": {"would be refused again": 1}})
        self.assertEqual(refused.mapped("state"), ["failed", "queued"])

    def test_after_an_outage_a_manager_grants_all_retries_anew(self):
        ways = {
            "list": lambda job: job.apply_bulk("retry"),
            "form": lambda job: job.action_retry(),
            "queue": lambda _job: self.queue.with_user(self.manager).action_retry_failed_jobs(),
            "chat": lambda job: job.thread_id.action_retry_last_failed_generation(),
        }
        for way, retry in ways.items():
            with self.subTest(way):
                user = self.manager if way == "chat" else self.user
                job = self._create_job("failed", user=user, max_retries=2)
                job.sudo().retry_count = 2
                retry(job.with_user(self.manager))
                self.assertRecordValues(job, [{"state": "queued", "retry_count": 0}])
                self._claim(job)
                self._engine()._apply([
                    (
                        self._claim_of(job, job.attempt_token),
                        self._answer("failed", error_type="transient"),
                    )
                ])
                self.assertTrue(job.retry_at)

    def test_what_is_granted_anew_begins_with_quick_tries(self):
        job = self._create_job("running")
        job.write({"attempt_count": 4, "retry_count": 3})
        job.action_fail("It broke.")
        job.with_user(self.manager).action_retry()
        self._claim(job)
        job.invalidate_recordset()
        decide = patch(f"{complete.__name__}.backoff.decide")
        with decide as decided:
            self._engine()._decide(job, self.queue, Mock(error_type="transient"))
        self.assertEqual(decided.call_args.kwargs["retry_count"], 0)
        self.assertEqual(decided.call_args.kwargs["snooze_count"], 0)

    def test_of_two_jobs_with_one_key_one_is_retried(self):
        twins = self._create_job("failed", identity_key="key")
        twins += self._create_job("failed", identity_key="key")

        result = twins.apply_bulk("retry")

        reason = "a job with the same key waits or runs"
        self.assertEqual(result, {"done": 1, "refused": {reason: 1}})
        self.assertEqual(sorted(twins.mapped("state")), ["failed", "queued"])

    def test_what_has_not_ended_is_cancelled(self):
        jobs = self._create_job("queued") + self._create_job() + self._create_job("completed")

        result = jobs.with_user(self.user).apply_bulk("cancel")

        self.assertEqual(result, {"done": 2, "refused": {"ended before": 1}})
        self.assertEqual(jobs.mapped("state"), ["cancelled", "cancelled", "completed"])

    def test_a_manager_changes_the_priority_of_what_waits(self):
        waiting, done = self._create_job("queued"), self._create_job("completed")

        result = (waiting + done).with_user(self.manager).apply_bulk("prioritize", 3)

        self.assertEqual(result["done"], 1)
        self.assertEqual(sum(result["refused"].values()), 1)
        self.assertEqual((waiting + done).mapped("priority"), [3, 10])

    def test_zero_is_a_priority(self):
        waiting = self._create_job("queued")
        waiting.with_user(self.manager).apply_bulk("prioritize", 0)
        self.assertEqual(waiting.priority, 0)

    def test_a_user_changes_the_priority_of_own_drafts_only(self):
        draft, waiting = self._create_job(), self._create_job("queued")

        result = (draft + waiting).with_user(self.user).apply_bulk("prioritize", 13)

        self.assertEqual(result, {"done": 1, "refused": {"only a manager may do that": 1}})
        self.assertEqual((draft + waiting).mapped("priority"), [13, 10])

    def test_nobody_touches_the_jobs_of_others(self):
        job = self._create_job("queued", user=self.manager)
        with self.assertRaises(AccessError):
            job.with_user(self.user).apply_bulk("cancel")
        self.assertEqual(job.state, "queued")

    def test_a_job_that_is_gone_meanwhile_is_left_out(self):
        job, gone = self._create_job("queued"), self._create_job()
        gone.unlink()
        result = (job + gone).with_user(self.manager).apply_bulk("cancel")
        self.assertEqual(result, {"done": 1, "refused": {}})

    def test_a_selection_is_only_itself(self):
        job = self._create_job("failed")
        self._create_job("failed")
        context = {"active_domain": [("state", "=", "failed")]}
        action = job.with_context(**context).action_bulk_retry()
        self.assertEqual(action["params"], {"what": "retry", "value": None, "ids": job.ids})

    def test_a_whole_filter_is_more_than_the_client_sends(self):
        jobs = self._create_job("failed") + self._create_job("failed") + self._create_job("failed")
        self._create_job("queued")
        self.env["ir.config_parameter"].set_param("web.active_ids_limit", "2")
        context = {"active_domain": [("state", "=", "failed")]}

        action = jobs[:2].with_context(**context).action_bulk_cancel()

        self.assertEqual(sorted(action["params"]["ids"]), sorted(jobs.ids))
        self.assertEqual(SELECTION_LIMIT, 20_000)

    def test_the_filter_of_another_list_is_none_of_jobs(self):
        jobs = self._create_job("failed") + self._create_job("failed")
        self.env["ir.config_parameter"].set_param("web.active_ids_limit", "1")
        context = {"active_domain": [("enabled", "=", True)], "active_model": self.queue._name}
        action = jobs.with_context(**context).action_bulk_retry()
        self.assertEqual(sorted(action["params"]["ids"]), sorted(jobs.ids))

    @users("generation_manager")
    def test_the_dialog_asks_for_the_priority_of_the_selection(self):
        job = self._create_job("queued")
        dialog = self.env["llm.generation.prioritize"].with_context(active_ids=job.ids).create({})
        self.assertEqual(dialog.priority, 10)
        dialog.priority = 2

        params = dialog.action_apply()["params"]

        self.assertEqual(params, {"what": "prioritize", "value": 2, "ids": job.ids})

    @users("generation_user")
    def test_the_dialog_is_for_managers(self):
        with self.assertRaises(AccessError):
            self.env["llm.generation.prioritize"].create({})
