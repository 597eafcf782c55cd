from datetime import timedelta
from unittest.mock import patch

import psycopg2

from odoo import fields
from odoo.exceptions import AccessError
from odoo.tests import new_test_user
from odoo.tools import mute_logger

from ..engine import maintain as upkeep_module
from ..hooks import post_init_hook
from .common import LlmGenerationCommon


class TestLlmGenerationQueue(LlmGenerationCommon):
    @property
    def queues(self):
        return self.env["llm.generation.queue"]

    # === CREATION === #

    def test_a_provider_comes_with_its_queue(self):
        provider, _model = self._create_provider("New", "fakedirect")
        queue = self.queues.search([("provider_id", "=", provider.id)])
        self.assertRecordValues(
            queue, [{"enabled": True, "max_concurrent_jobs": 5, "auto_retry_failed": True}]
        )
        self.assertEqual(queue.display_name, "New")

    def test_a_queue_is_made_once(self):
        self.assertEqual(self.queues._get_or_create_queue(self.native), self.queue)
        self.assertEqual(self.queues._get_or_create_queue(self.native.id), self.queue)

    def test_a_queue_that_is_missing_is_made_at_first_use(self):
        self.env.cr.execute("DELETE FROM llm_generation_queue WHERE id = %s", [self.queue.id])
        self.queues.invalidate_model()
        self.assertFalse(self.queues.search([("provider_id", "=", self.native.id)]))
        queue = self.queues.with_user(self.user)._get_or_create_queue(self.native.id)
        self.assertEqual(queue.provider_id, self.native)
        self.assertFalse(queue.env.su)
        self.assertEqual(self.queues._get_or_create_queue(self.native), queue)

    def test_the_installation_makes_the_missing_queues_in_its_own_transaction(self):
        self.env.cr.execute("DELETE FROM llm_generation_queue WHERE id = %s", [self.queue.id])
        self.queues.invalidate_model()
        engine = type(self.env["llm.generation.engine"])
        with self.assertNoLogs(level="ERROR"), patch.object(engine, "_transaction", None):
            post_init_hook(self.env)
        self.assertEqual(len(self.queues.search([("provider_id", "=", self.native.id)])), 1)

    def test_a_provider_has_one_queue_only(self):
        with mute_logger("odoo.sql_db"), self.assertRaises(psycopg2.errors.UniqueViolation):
            self.queues.create({"provider_id": self.native.id})

    def test_a_queue_belongs_to_a_provider(self):
        self.assertIn("Choose a provider", self._refusal(self.queues._get_or_create_queue, False))

    def test_a_queue_without_a_slot_is_refused(self):
        with mute_logger("odoo.sql_db"), self.assertRaises(psycopg2.errors.CheckViolation):
            self.queue.max_concurrent_jobs = 0
            self.queue.flush_recordset()

    def test_limits_are_not_negative(self):
        for name in (
            "requests_per_minute",
            "tokens_per_minute",
            "retry_delay_minutes",
            "job_timeout",
        ):
            with (
                self.subTest(field=name),
                mute_logger("odoo.sql_db"),
                self.assertRaises(psycopg2.errors.CheckViolation),
            ):
                self.queue[name] = -1
                self.queue.flush_recordset()

    def test_a_deleted_provider_takes_its_queue_along(self):
        provider, _model = self._create_provider("Short-lived", "fakedirect")
        queue = self.queues._get_or_create_queue(provider)
        provider.unlink()
        self.assertFalse(queue.exists())

    def test_a_provider_with_jobs_is_not_deleted(self):
        self._create_job("completed")
        with mute_logger("odoo.sql_db"), self.assertRaises(psycopg2.Error):
            self.native.unlink()

    # === ACTIONS === #

    def test_disabling_and_enabling_are_remembered(self):
        queues = (self.queue | self.direct_queue).with_user(self.manager)
        queues.action_disable()
        self.assertEqual(queues.mapped("enabled"), [False, False])
        queues.action_enable()
        self.assertEqual(queues.mapped("enabled"), [True, True])

    def test_enabling_ends_a_pause(self):
        until = fields.Datetime.now() + timedelta(hours=1)
        self.queue.write({"paused_until": until, "refused_by": "quota", "enabled": False})
        self.queue.with_user(self.manager).action_enable()
        self.assertRecordValues(
            self.queue, [{"enabled": True, "paused_until": False, "refused_by": False}]
        )

    def test_processing_now_sets_a_pause_aside(self):
        job = self._create_job("queued")
        self.queue.paused_until = fields.Datetime.now() + timedelta(hours=1)
        self.assertEqual(self._process_queue(), 0)
        self.queue.with_user(self.manager).action_process_queue()
        self.assertEqual(job.state, "running")

    def test_clearing_cancels_what_waits_and_says_how_many(self):
        waiting = self._create_job("queued") | self._create_job("queued", user=self.manager)
        others = (
            self._create_job("draft")
            | self._create_job("running")
            | self._create_job("failed")
            | self._create_job("queued", self.direct_model)
        )
        states = others.mapped("state")
        self.assertEqual(self.queue.with_user(self.manager).action_clear_queue(), 2)
        self.assertEqual(waiting.mapped("state"), ["cancelled", "cancelled"])
        self.assertEqual(others.mapped("state"), states)
        self.assertEqual(self.queue.with_user(self.manager).action_clear_queue(), 0)

    def test_clearing_a_long_queue_goes_on_until_nothing_waits(self):
        jobs = [self._create_job("queued") for _job in range(5)]
        with patch.object(upkeep_module, "CANCEL_BATCH", 2):
            self.assertEqual(self.queue.action_clear_queue(), 5)
        self.assertEqual({job.state for job in jobs}, {"cancelled"})

    def test_retrying_takes_what_can_be_retried_and_says_how_many(self):
        failed = self._create_job("failed") | self._create_job("failed", user=self.manager)
        failed |= self._create_job("failed", max_retries=0)  # a manager's retry grants another
        refused = self._create_job("failed")
        refused.error_type = "content_refused"
        other = self._create_job("failed", self.direct_model)
        self.assertEqual(self.queue.with_user(self.manager).action_retry_failed_jobs(), 3)
        self.assertEqual(failed.mapped("state"), ["queued"] * 3)
        self.assertEqual((refused | other).mapped("state"), ["failed", "failed"])

    def test_retrying_leaves_out_who_would_be_a_twin(self):
        first = self._create_job("failed", identity_key="one")
        second = self._create_job("failed", identity_key="one")
        self.assertEqual(self.queue.action_retry_failed_jobs(), 1)
        self.assertEqual(sorted((first | second).mapped("state")), ["failed", "queued"])

    def test_the_jobs_of_a_queue_can_be_opened(self):
        mine = self._create_job()
        self._create_job(model=self.direct_model)
        action = self.queue.action_view_jobs()
        self.assertEqual(action["res_model"], "llm.generation.job")
        jobs = self.env["llm.generation.job"].search(action["domain"])
        self.assertEqual(jobs.provider_id, self.native)
        self.assertIn(mine, jobs)

    # === REFUSED ACCOUNTS === #

    def test_a_refused_account_pauses_the_queue_and_keeps_its_jobs(self):
        for refusal in ("quota", "authentication"):
            with self.subTest(refusal=refusal):
                self.queue.write({"paused_until": False, "refused_by": False})
                job = self._create_job("queued")
                waiting = self._create_job("queued")
                self._apply(self._claim(job), state="failed", error_type=refusal)
                self.assertEqual((job.state, job.retry_count), ("queued", 0))
                self.assertEqual(waiting.state, "queued")
                self.assertEqual(self.queue.refused_by, refusal)
                self.assertGreater(self.queue.paused_until, fields.Datetime.now())
                self.assertEqual(self.queue.queue_health, "critical")
                (job | waiting).action_cancel()

    def test_each_manager_is_told_once(self):
        for _time in range(2):
            job = self._create_job("queued")
            self._apply(self._claim(job), state="failed", error_type="quota")
            self.queue.paused_until = False
        activities = self.queue.activity_ids
        self.assertEqual(len(activities.filtered(lambda a: a.user_id == self.manager)), 1)
        self.assertNotIn(self.user, activities.user_id)
        self.assertIn("refuses our account: Quota", activities[0].summary)

    def test_managers_are_not_told_again_of_what_they_have_still_to_do(self):
        for _time in range(2):
            job = self._create_job("queued")
            self._apply(self._claim(job), state="failed", error_type="quota")
            self.queue.paused_until = False
            job.write({"scheduled_at": False, "is_scheduled": False})
            self._apply(self._claim(job), state="completed")
            self.assertFalse(self.queue.refused_by)
            told = self.queue.activity_ids.filtered(lambda one: one.user_id == self.manager)
            self.assertEqual(len(told), 1)

    def test_who_manages_by_another_group_is_told_too(self):
        group = self.env["res.groups"].create({
            "name": "IT", "implied_ids": [(4, self.env.ref("llm.group_llm_manager").id)]
        })  # fmt: skip
        people = new_test_user(self.env, "generation_it", "base.group_user")
        people.group_ids += group
        self._apply(self._claim(self._create_job("queued")), state="failed", error_type="quota")
        self.assertIn(people, self.queue.activity_ids.user_id)

    def test_managers_who_cannot_see_the_queue_are_not_told(self):
        company = self.env["res.company"].create({"name": "Elsewhere"})
        self.manager.write({"company_ids": [(6, 0, company.ids)], "company_id": company.id})
        job = self._create_job("queued")
        self._apply(self._claim(job), state="failed", error_type="quota")
        self.assertEqual(job.state, "queued")
        self.assertNotIn(self.manager, self.queue.activity_ids.user_id)

    def test_a_call_that_succeeds_ends_the_refusal(self):
        self.queue.refused_by = "quota"
        self._apply(self._claim(self._create_job("queued")), state="completed")
        self.assertFalse(self.queue.refused_by)

    def test_processing_now_starts_what_the_refusal_held_back(self):
        job = self._create_job("queued")
        self._apply(self._claim(job), state="failed", error_type="authentication")
        self.assertEqual(self._process_queue(), 0)
        self.queue.with_user(self.manager).action_process_queue()
        self.assertEqual(job.state, "running")

    def test_figures_follow_the_jobs_and_the_settings(self):
        self.assertEqual((self.queue.queued_jobs_count, self.queue.queue_health), (0, "healthy"))
        job = self._create_job("queued")
        self.assertEqual(self.queue.queued_jobs_count, 1)
        self.assertTrue(job.thread_id.is_generating)
        self.queue.enabled = False
        self.assertEqual(self.queue.queue_health, "disabled")
        job.action_cancel()
        self.assertEqual(self.queue.queued_jobs_count, 0)
        self.assertFalse(job.thread_id.is_generating)

    def test_a_pause_is_never_shortened(self):
        long, short = self._create_job("queued"), self._create_job("queued")
        claims = [self._claim(long), self._claim(short)]
        values = {"state": "failed", "error_type": "rate_limited"}
        self._apply(claims[0], **values, retry_after=3600)
        until = self.queue.paused_until
        self._apply(claims[1], **values, retry_after=5)
        self.assertEqual(self.queue.paused_until, until)

    # === ACCESS === #

    def test_figures_are_for_everybody_and_actions_for_managers(self):
        queue = self.queue.with_user(self.user)
        self.assertEqual(queue.get_queue_stats()["queue_id"], queue.id)
        with self.assertRaises(AccessError):
            queue.action_disable()
        with self.assertRaises(AccessError):
            queue.action_clear_queue()
