from datetime import timedelta

import requests

from odoo import fields
from odoo.exceptions import AccessError, UserError
from odoo.tools import mute_logger

from .. import exceptions
from ..protocol import backoff
from ..protocol.answer import Answer, Claim
from .common import LlmGenerationCommon

LOGGER = "odoo.addons.llm_generate_job.engine.execute"


def http_error(status, headers=None):
    response = requests.Response()
    response.status_code = status
    response.headers.update(headers or {})
    response._content = b"{}"
    return requests.HTTPError(f"HTTP {status}", response=response)


class TestLlmGenerationVerdict(LlmGenerationCommon):
    def _run_into(self, error, **values):
        """Queue a job, let its provider raise, and return the job."""
        self.queue.write({"paused_until": False, "refused_by": False})
        self.service.answers["create"] = [error]
        job = self._create_job("queued", **values)
        self._process_queue()
        return job

    def _retry_now(self, job):
        self.assertTrue(job.retry_at)
        job.retry_at = fields.Datetime.now() - timedelta(seconds=5)
        return self.env["llm.generation.queue"]._auto_retry_failed_jobs()

    # === WHAT FOLLOWS FROM AN ERROR === #

    def test_a_queue_that_retries_nothing_any_more_gives_up_what_was_planned(self):
        later = fields.Datetime.now() + timedelta(hours=1)
        job, other = self._create_job("failed"), self._create_job("failed", self.direct_model)
        (job + other).retry_at = later
        self.queue.with_user(self.manager).auto_retry_failed = False
        self.assertRecordValues(job + other, [{"retry_at": False}, {"retry_at": later}])

    @mute_logger(LOGGER)
    def test_each_error_has_its_consequence(self):
        #: error, state of the job, its error type, whether a retry is due, whether the queue waits
        table = [
            (exceptions.RateLimitedError("Slow"), "queued", "rate_limited", False, True),
            (exceptions.OverloadedError("Busy"), "queued", "overloaded", False, False),
            (exceptions.TransientError("Oops"), "failed", "transient", True, False),
            (exceptions.GenerationError("Oops"), "failed", "transient", True, False),
            (exceptions.UnknownOutcomeError("Lost"), "failed", "unknown_outcome", True, False),
            (exceptions.ProviderFailedError("No"), "failed", "provider_failed", True, False),
            (exceptions.QuotaExceededError("Pay"), "queued", "quota", False, True),
            (exceptions.AuthenticationError("Who"), "queued", "authentication", False, True),
            (exceptions.BadRequestError("What"), "failed", "bad_request", False, False),
            (exceptions.ContentRefusedError("Ugh"), "failed", "content_refused", False, False),
            (exceptions.GenerationCancelledError("Stop"), "cancelled", "cancelled", False, False),
            (UserError("Fill in the address."), "failed", "bad_request", False, False),
            (AccessError("Not yours."), "failed", "access", False, False),
            (ValueError("A bug"), "failed", "internal", False, False),
            (http_error(429), "queued", "rate_limited", False, True),
            (http_error(401), "queued", "authentication", False, True),
            (http_error(503), "queued", "overloaded", False, False),
            (http_error(500), "failed", "transient", True, False),
            (http_error(422), "failed", "bad_request", False, False),
            (requests.ReadTimeout("Slow"), "failed", "unknown_outcome", True, False),
            (requests.ConnectTimeout("Slow"), "queued", "transient", False, False),
        ]
        for error, state, error_type, retried, paused in table:
            with self.subTest(error=repr(error)):
                job = self._run_into(error)
                self.assertEqual((job.state, job.error_type), (state, error_type))
                self.assertEqual(bool(job.retry_at), retried)
                self.assertEqual(bool(self.queue.paused_until), paused)
                self.assertEqual(job.retry_count, 0)
                outcome = "snoozed" if state == "queued" else state
                self.assertEqual(job.attempt_ids.outcome, outcome)
                self.assertEqual(job.attempt_ids.error_type, error_type)
                if job.state == "queued":
                    job.action_cancel()

    def test_the_error_is_told_in_the_providers_words(self):
        job = self._run_into(exceptions.BadRequestError("The picture is too large."))
        self.assertEqual(job.error_message, "The picture is too large.")

    def test_an_error_as_long_as_a_novel_is_cut(self):
        job = self._run_into(exceptions.BadRequestError("x" * 100_000))
        self.assertLessEqual(len(job.error_message), 2000)

    def test_an_error_is_forgotten_once_the_job_succeeds(self):
        job = self._run_into(exceptions.TransientError("Oops"))
        self._retry_now(job)
        self.service.answers["create"] = [{"state": "completed"}]
        self._process_queue()
        self.assertRecordValues(
            job, [{"state": "completed", "error_type": False, "error_message": False}]
        )

    # === RATE LIMITS === #

    def test_retry_after_is_honoured_whatever_its_length(self):
        for seconds in (2.5, 90, 86400):
            with self.subTest(seconds=seconds):
                job = self._run_into(exceptions.RateLimitedError("Slow", retry_after=seconds))
                wait = (self.queue.paused_until - fields.Datetime.now()).total_seconds()
                self.assertAlmostEqual(wait, seconds, delta=20)
                job.action_cancel()

    def test_no_header_stops_the_engine(self):
        job = self._create_job("queued")
        self.assertTrue(
            self._engine()._apply([(self._claim(job), Answer("completed", pause=1e300))])
        )
        self.assertEqual(job.state, "completed")
        self.assertTrue(self.env["llm.generation.model.pause"].search([]).paused_until)

    def test_a_job_may_be_asked_about_for_ever(self):
        job = self._create_job("queued")
        claim = self._claim(job)
        self._apply(claim, state="running", external_job_id="ext-1")
        job.poll_count = 5000
        self.assertTrue(self._apply(claim, state="running"))

    def test_retry_after_of_http_is_honoured(self):
        self._run_into(http_error(429, {"Retry-After": "3600"}))
        wait = (self.queue.paused_until - fields.Datetime.now()).total_seconds()
        self.assertAlmostEqual(wait, 3600, delta=20)

    def test_waiting_for_a_rate_limit_costs_no_retry(self):
        job = self._run_into(exceptions.RateLimitedError("Slow"), max_retries=0)
        for _time in range(3):
            self.queue.paused_until = False
            self.assertEqual(self._process_queue(), 1)
        self.assertEqual((job.state, job.retry_count), ("queued", 0))
        self.queue.paused_until = False
        self.service.answers["create"] = ["ext-1"]
        self._process_queue()
        self.assertEqual(job.state, "running")
        self.assertEqual(len(job.attempt_ids), 5)

    def test_an_overloaded_provider_is_asked_a_few_times_for_free(self):
        job = self._run_into(exceptions.OverloadedError("Busy"))
        for _time in range(len(backoff.QUICK_DELAYS) - 1):
            self.assertEqual((job.state, job.retry_count), ("queued", 0))
            self.assertEqual(self._process_queue(), 0)
            job.write({"scheduled_at": False, "is_scheduled": False})
            self.assertEqual(self._process_queue(), 1)
        self.assertEqual(job.state, "queued")
        job.write({"scheduled_at": False, "is_scheduled": False})
        self._process_queue()
        self.assertEqual(job.state, "failed")
        self.assertTrue(job.retry_at)

    # === RETRIES === #

    def test_a_retry_is_queued_when_it_is_due_and_costs_one(self):
        job = self._run_into(exceptions.TransientError("Oops"))
        job.retry_at = fields.Datetime.now() + timedelta(minutes=3)
        retry = self.env["llm.generation.queue"]._auto_retry_failed_jobs
        self.assertEqual(retry(), 0)
        self.assertEqual(job.state, "failed")
        self.assertEqual(self._retry_now(job), 1)
        self.assertRecordValues(job, [{"state": "queued", "retry_count": 1, "retry_at": False}])

    def test_a_job_fails_for_good_when_no_retry_is_left(self):
        job = self._run_into(exceptions.TransientError("Oops"), max_retries=2)
        for used in (1, 2):
            self._retry_now(job)
            self.assertEqual(job.retry_count, used)
            self._process_queue()
        self.assertRecordValues(job, [{"state": "failed", "retry_at": False}])
        self.assertFalse(job.can_retry)
        self.assertEqual(len(job.attempt_ids), 3)

    def test_a_queue_that_does_not_retry_leaves_it_to_people(self):
        self.queue.auto_retry_failed = False
        job = self._run_into(exceptions.TransientError("Oops"))
        self.assertFalse(job.retry_at)
        self.assertTrue(job.can_retry)

    def test_the_delay_of_the_queue_bounds_the_first_retry(self):
        self.queue.retry_delay_minutes = 10
        job = self._run_into(exceptions.TransientError("Oops"))
        self.assertLessEqual(job._seconds_to_retry(), 600)

    def test_a_retry_gives_way_to_a_live_job_of_the_same_identity(self):
        job = self._run_into(exceptions.TransientError("Oops"), identity_key="one")
        twin = self._create_job("queued", identity_key="one")
        self.assertEqual(self._retry_now(job), 0)
        self.assertRecordValues(job, [{"state": "failed", "retry_at": False}])
        self.assertEqual(twin.state, "queued")

    # === THE FENCE === #

    def test_an_attempt_that_was_overtaken_changes_nothing(self):
        job = self._create_job("queued")
        old = self._claim(job)
        job._set_state("queued")
        new = self._claim(job)
        before = self._values(job)

        for answer in (
            {"state": "completed"},
            {"state": "failed", "error_message": "Late"},
            {"state": "running", "progress": 50},
            {"state": "cancelled"},
        ):
            with self.subTest(answer=answer):
                self.assertFalse(self._apply(old, **answer))
                self.assertEqual(self._values(job), before)

        self.assertTrue(self._apply(new, state="completed"))
        self.assertEqual(job.state, "completed")

    def test_an_answer_after_the_end_is_thrown_away(self):
        for end in ("action_cancel", "action_complete", "action_fail"):
            with self.subTest(end=end):
                job = self._create_job("queued")
                claim = self._claim(job)
                getattr(job, end)()
                before = self._values(job)
                self.assertFalse(self._apply(claim, state="completed", progress=3))
                self.assertEqual(self._values(job), before)

    def test_answers_of_one_batch_do_not_take_each_others_place(self):
        job = self._create_job("queued")
        old = self._claim(job)
        job._set_state("queued")
        new = self._claim(job)
        late = Answer("failed", error_type="bad_request", error_message="Late")
        pairs = [(new, Answer("completed")), (old, late)]
        self._engine()._apply(pairs)
        self.assertEqual(job.state, "completed")

    def test_many_verdicts_are_stored_at_once(self):
        jobs = [self._create_job("queued") for _job in range(3)]
        claims = [self._claim(job) for job in jobs]
        answers = [
            Answer("completed", usage={"prompt_tokens": 5, "completion_tokens": 2}),
            Answer("failed", error_type="bad_request", error_message="What"),
            Answer("running", external_job_id="ext-9"),
        ]
        pairs = list(zip(claims, answers, strict=True))
        pairs.append((Claim(2**31 - 1, 1), Answer("completed")))  # a job that is gone
        self.assertEqual(self._engine()._apply(pairs), 3)
        self.assertEqual([job.state for job in jobs], ["completed", "failed", "running"])
        self.assertEqual((jobs[0].prompt_tokens, jobs[0].completion_tokens), (5, 2))
        self.assertEqual(jobs[2].external_job_id, "ext-9")

    def test_what_was_used_is_kept_with_the_attempt(self):
        job = self._create_job("queued")
        usage = {"prompt_tokens": 11, "completion_tokens": 4}
        self._apply(self._claim(job), state="completed", usage=usage)
        self.assertRecordValues(job.attempt_ids, [{**usage, "outcome": "completed"}])
