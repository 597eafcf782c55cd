from datetime import timedelta
from unittest.mock import patch

import psycopg2

from odoo import fields
from odoo.tests import new_test_user

from odoo.addons.llm_generate_job import exceptions
from odoo.addons.llm_generate_job.tests.common import posted, user_groups
from odoo.addons.queue_job.exception import FailedJobError

from .common import QueueJobCommon

DETAIL = "canary-detail"
LOGGER = "odoo.addons.llm_generate_job_queue_job.models.llm_generation_delegation"


class TestExecution(QueueJobCommon):
    """What a worker of queue_job does with a claim of ours."""

    def test_a_worker_runs_the_job_to_its_end(self):
        job, record = self._handed_over()
        result = self._work(record)
        self.assertEqual(job.state, "completed")
        self.assertEqual(job.output_message_id.body, '<p dir="auto">Hello</p>')
        self.assertEqual(record.state, "done")
        self.assertIn(str(job.id), result)
        self.assertEqual(len(self.service.calls["chat"]), 1)

    def test_a_worker_waits_as_long_as_the_queue_says(self):
        self.direct_queue.job_timeout = 900
        claims = []
        delegation = type(self.env["llm.generation.delegation"])
        with patch.object(
            delegation, "_execute_claimed", lambda _self, claim: claims.append(claim) or ""
        ):
            job, record = self._handed_over()
            self._work(record)
        [claim] = claims
        self.assertEqual((claim.job_id, claim.token), (job.id, job.attempt_token))
        self.assertEqual((claim.timeout, claim.provider_id), (900, self.direct.id))

    def test_the_attempt_belongs_to_the_worker_that_begins_it(self):
        owners = []
        self.service.chunks = [lambda: owners.append(job.attempt_ids.runner_id), {"content": "Hi"}]
        job, record = self._handed_over()
        self.assertEqual(job.attempt_ids.runner_id, self.runner)
        self._work(record)
        self.assertEqual(len(owners), 1)
        self.assertNotEqual(owners[0], self.runner)
        self.assertTrue(job.attempt_ids.queue_job_begun_at)

    def test_waiting_for_a_worker_is_no_run_time(self):
        job, record = self._handed_over()
        earlier = fields.Datetime.now() - timedelta(seconds=30)
        job.write({"queued_at": earlier, "started_at": earlier})
        self._work(record)
        self.assertGreater(job.queue_duration, 25)
        self.assertLess(job.duration, 5)

    def test_a_job_that_the_provider_runs_is_left_to_the_polls(self):
        job = self._create_job("queued")
        self._hand_over(queue=self.queue)
        self._work(self._record_of(job))
        self.assertRecordValues(job, [{"state": "running", "external_job_id": "ext-1"}])
        self.assertFalse(job.attempt_ids.runner_id)
        self.service.answers["check"] = [posted("Done")]
        self._engine()._check_due()
        self.assertEqual(job.state, "completed")

    def test_what_the_provider_refuses_is_retried_by_us_and_done_for_queue_job(self):
        self.service.chunks = [exceptions.TransientError("Come again.")]
        job, record = self._handed_over()
        self._work(record)
        self.assertRecordValues(job, [{"state": "failed", "error_type": "transient"}])
        self.assertTrue(job.retry_at)
        self.assertEqual((record.state, record.retry), ("done", 1))

    def test_a_record_that_runs_again_does_nothing(self):
        job, record = self._handed_over()
        self._work(record)
        record.requeue()
        result = self._work(record)
        self.assertIn("Superseded", result)
        self.assertEqual((job.state, record.state), ("completed", "done"))
        self.assertEqual(len(self.service.calls["chat"]), 1)

    def test_an_attempt_that_another_worker_has_begun_is_not_begun_again(self):
        job, record = self._handed_over()
        claim = self._claim_of(job, job.attempt_token)
        delegation = self.env["llm.generation.delegation"]
        begun = delegation._begin([claim], self.runner.id, "host:2")
        job_context, refusal = begun[claim.token]
        self.assertEqual((job_context.claim, refusal), (claim, ""))
        # Its process is gone, and the job runner of queue_job has it started once more.
        self.assertIn("Superseded", self._work(record))
        self.assertFalse(self.service.calls["chat"])
        self.assertEqual((job.state, record.state), ("running", "done"))

    def test_of_those_that_begin_together_each_gets_its_own_answer(self):
        (going, _record), (late, _late) = self._handed_over(), self._handed_over()
        old = self._claim_of(late, late.attempt_token)
        self._engine()._snooze_claims([old])
        self._hand_over()
        closed = self._create_job("queued")
        self._hand_over(queue=self.queue)
        self.queue.enabled = False
        claims = [self._claim_of(job, job.attempt_token) for job in (going, late, closed)]
        delegation = self.env["llm.generation.delegation"]
        begun = delegation._begin([*claims, old], self.runner.id, "host:2")
        self.assertEqual(
            {token: context and context.claim for token, (context, _why) in begun.items()},
            {claims[0].token: claims[0], claims[1].token: claims[1],
             claims[2].token: None, old.token: None},
        )  # fmt: skip
        self.assertIn("Superseded", begun[old.token][1])
        self.assertIn("starts nothing now", begun[claims[2].token][1])
        self.assertEqual((going | late | closed).mapped("state"), ["running", "running", "queued"])

    def test_many_claims_are_handed_over_and_begun_with_the_statements_of_few(self):
        delegation, counts = self.env["llm.generation.delegation"], []
        self.direct_queue.max_concurrent_jobs = 50
        for number in (2, 2, 9):  # the first fills the caches of the registry
            jobs = [self._create_job("queued", model=self.direct_model) for _job in range(number)]
            claims, _wait = delegation._claim(50, self.runner.id, "host:1", self.direct_queue.ids)
            self.assertEqual(len(claims), number)
            with self._counting() as statements:
                delegation._hand_over(claims)
                begun = delegation._begin(claims, self.runner.id, "host:2")
            self.assertEqual(len([context for context, _why in begun.values() if context]), number)
            self.assertTrue(all(job.attempt_ids.queue_job_uuid for job in jobs))
            counts.append(len(statements))
        self.assertEqual(counts[1], counts[2])

    def test_a_token_that_is_no_longer_the_jobs_does_nothing(self):
        job, record = self._handed_over()
        claim = self._claim_of(job, job.attempt_token)
        self._engine()._snooze_claims([claim])
        self._hand_over()
        self.assertIn("Superseded", self._work(record))
        self.assertEqual(job.state, "running")
        self._work(self._record_of(job))
        self.assertEqual(job.state, "completed")
        self.assertEqual(len(self.service.calls["chat"]), 1)

    def test_a_job_that_was_deleted_meanwhile_is_none(self):
        job, record = self._handed_over()
        job.with_user(self.manager).action_cancel()
        job.unlink()
        record.requeue()
        self.assertIn("Superseded", self._work(record))

    def test_what_a_worker_would_begin_during_a_pause_waits_again(self):
        job, record = self._handed_over()
        self.direct_queue.paused_until = fields.Datetime.now() + timedelta(minutes=1)
        self._work(record)
        self.assertRecordValues(job, [{"state": "queued", "retry_count": 0}])
        self.assertFalse(self.service.calls["chat"])

    def test_what_a_worker_would_begin_of_a_disabled_queue_waits_again(self):
        job, record = self._handed_over()
        self.direct_queue.enabled = False
        self._work(record)
        self.assertEqual(job.state, "queued")
        self.assertFalse(self.service.calls["chat"])

    def test_a_job_that_somebody_is_changing_is_begun_afterwards(self):
        job, record = self._handed_over()
        tries = []

        def begin(delegation, *args):
            tries.append(args)
            return {} if len(tries) < 3 else original(delegation, *args)

        original = type(self.env["llm.generation.delegation"])._begin
        with (
            self._offered("llm.generation.delegation", _begin=begin),
            self._patched(f"{LOGGER}.HELD_DELAY", 0.01),
        ):
            self._work(record)
        self.assertEqual(len(tries), 3)
        self.assertEqual(job.state, "completed")

    def test_an_owner_who_was_archived_meanwhile_gets_nothing_run(self):
        owner = new_test_user(self.env, "leaver", user_groups(self.env))
        job, record = self._handed_over(user=owner)
        owner.active = False
        self._work(record)
        self.assertRecordValues(job, [{"state": "failed", "error_type": "access"}])
        self.assertFalse(self.service.calls["chat"])

    def test_an_error_of_ours_is_told_to_queue_job_without_its_text(self):
        job, record = self._handed_over()

        def fail(_delegation, _claims, _runner_id, _runner_name):
            raise psycopg2.OperationalError(DETAIL)

        with (
            self._offered("llm.generation.delegation", _begin=fail),
            self.assertLogs(LOGGER, "ERROR"),
            self.assertRaises(FailedJobError) as caught,
        ):
            self._work(record)
        self.assertNotIn(DETAIL, str(caught.exception))
        self.assertTrue(caught.exception.__suppress_context__)
        self.assertEqual(job.state, "running")  # until the housekeeping sees the failed record
