"""Whose fault an error is, and what follows for the job, for others, and for the bill."""

from datetime import timedelta
from unittest.mock import patch

import requests
from urllib3.exceptions import MaxRetryError, NewConnectionError

from odoo import fields

from .. import exceptions
from ..protocol import backoff
from ..runner.executor import CallRecorder
from .common import LlmGenerationCommon
from .test_http_errors import response
from .test_library_errors import OPENAI, Response, library, of_httpx, of_stainless, raised

FLAGGED = (403, "Input was flagged", None)
TOO_LARGE = (429, "Request too large: Limit 30000, Requested 36278", "rate_limit_exceeded")
FEWER = (402, "Fewer max_tokens: you can only afford 3919.", None)
DENIED = (403, "Not allowed.", "key_model_access_denied")
OF_MODEL = (429, "Rate limit reached for gpt-4o in organization org-x", "rate_limit_exceeded")
BUDGET = (400, "Budget has been exceeded!", "budget_exceeded")
NO_CREDIT = (400, "Your credit balance is too low.", None)


def by_requests(status, words, code, **headers):
    """Return what our own client raises."""
    body = {"error": {"message": words, "code": code}}
    return requests.HTTPError("No", response=response(status, body, headers))


def by_openai(status, words, code, **headers):
    """Return what the library of the family's client raises."""
    error = {"message": words, "code": code}
    return of_stainless(status, error, Response(status, {"error": error}, headers))


CLIENTS = (by_requests, by_openai)


class TestBlame(LlmGenerationCommon):
    """Jobs of a provider that only chats: `calls["chat"]` is what it saw."""

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.other_model = cls.direct_model.copy({"name": "Other model"})
        cls.direct_queue.max_concurrent_jobs = 1
        cls.good = [{"content": "Hello"}]

    def _asked(self, model=None, **values):
        return self._create_job("queued", model=model or self.direct_model, **values)

    def _run(self, error=None):
        """Start what may start, and return how many calls the provider saw."""
        self.service.chunks = [error] if error else self.good
        before = len(self.service.calls["chat"])
        self._process_queue(self.direct)
        return len(self.service.calls["chat"]) - before

    def _resume(self, job=None):
        """Let all waits be over, as time does."""
        past = fields.Datetime.now() - timedelta(seconds=1)
        self.direct_queue.paused_until = self.direct_queue.paused_until and past
        self._pauses().paused_until = past
        if job and job.state == "queued":
            job.write({"scheduled_at": False, "is_scheduled": False})
        elif job and job.retry_at:
            job.retry_at = past
            self._engine()._retry_due()

    def _pauses(self):
        return self.env["llm.generation.model.pause"].search([
            ("queue_id", "=", self.direct_queue.id)
        ])

    def _left(self, record):
        return (record.paused_until - fields.Datetime.now()).total_seconds()

    def _calls_until_the_end(self, job, error):
        """Return how many calls a job costs that meets the same error each time."""
        calls = self._run(error)
        for _time in range(300):
            if job.state == "failed" and not job.retry_at:
                return calls
            self._resume(job)
            calls += self._run(error)
        return self.fail("It comes back for ever.")

    # === THE REQUEST === #

    def test_a_request_that_is_at_fault_ends_and_stops_nobody(self):
        for client in CLIENTS:
            for said in (FLAGGED, TOO_LARGE, FEWER):
                with self.subTest(client=client.__name__, said=said):
                    job, other = self._asked(), self._create_job("queued", self.direct_model)
                    other.write({"is_scheduled": True})
                    self.assertEqual(self._run(client(*said)), 1)
                    self.assertRecordValues(job, [{"state": "failed", "retry_at": False}])
                    self.assertIn(said[1], job.error_message)
                    self.assertFalse(self.direct_queue.paused_until or self._pauses())
                    other.is_scheduled = False
                    self.assertEqual(self._run(), 1)
                    self.assertEqual(other.state, "completed")

    def test_a_refusal_in_unknown_words_is_the_requests_if_others_are_served_meanwhile(self):
        for status, words in ((403, "Forbidden"), (402, "Payment required")):
            with self.subTest(status):
                self._check_unknown_words(by_requests(status, words, None))

    def _check_unknown_words(self, error):
        job = self._asked(max_retries=1)
        self.assertEqual(self._run(error), 1)
        self.assertTrue(self.direct_queue.paused_until)
        self._resume(job)
        self.assertEqual(self._run(error), 1)
        self.assertEqual(job.state, "queued")  # nobody else has been served

        self._resume(job)
        job.is_scheduled = True
        other = self._asked()
        self.assertEqual(self._run(), 1)
        self.assertEqual(other.state, "completed")
        # Within one transaction all jobs end at the same moment.
        other.completed_at = fields.Datetime.now() + timedelta(seconds=5)
        self.direct_queue.paused_until = False
        self._resume(job)
        self.assertEqual(self._run(error), 1)

        self.assertEqual((job.state, bool(job.retry_at)), ("failed", True))
        self.assertFalse(self.direct_queue.paused_until)
        (job | other).unlink()

    # === THE MODEL === #

    def test_a_model_that_is_limited_or_refused_pauses_alone(self):
        for client in CLIENTS:
            for said, seconds in ((OF_MODEL, 20), (DENIED, backoff.REFUSED_DELAY)):
                with self.subTest(client=client.__name__, said=said):
                    job, twin = self._asked(), self._asked()
                    self.assertEqual(self._run(client(*said, **{"Retry-After": "20"})), 1)
                    self.assertEqual((job.state, twin.state), ("queued", "queued"))
                    self.assertEqual((job.retry_count, twin.attempt_count), (0, 0))
                    self.assertFalse(self.direct_queue.paused_until)
                    self.assertAlmostEqual(self._left(self._pauses()), seconds, delta=5)
                    self.assertAlmostEqual(self._engine()._next_due(), seconds, delta=5)
                    health = self.direct_queue.queue_health, self.direct_queue.health_reason
                    self.assertEqual(health[0], "warning")
                    self.assertIn(self.direct_model.name, health[1])

                    other = self._asked(self.other_model)
                    self.assertEqual(self._run(), 1)
                    self.assertEqual((other.state, twin.attempt_count), ("completed", 0))

                    self._resume(job)
                    self.assertEqual(self._run(), 2)
                    self.assertEqual({job.state, twin.state}, {"completed"})
                    self.assertFalse(self._pauses())
                    self.env.invalidate_all()
                    self.assertEqual(self.direct_queue.queue_health, "healthy")

    def test_a_limit_that_names_the_model_is_the_models(self):
        self._asked()
        self._run(by_requests(429, f"{self.direct_model.name}: slow down!", None))
        self.assertEqual(self._pauses().model_id, self.direct_model)
        self.assertFalse(self.direct_queue.paused_until)

    def test_a_name_that_is_part_of_another_one_is_none(self):
        self.direct_model.name = "slow"
        self._asked()
        self._run(by_requests(429, "Go slowly, and not so-slow.", None))
        self.assertFalse(self._pauses())
        self.assertTrue(self.direct_queue.paused_until)

    def test_managers_are_told_once_of_a_model_that_is_refused_and_end_its_pause(self):
        self.direct_queue.activity_ids.unlink()
        job = self._asked()
        for _time in range(2):
            self._run(by_requests(*DENIED))
            self._resume()
        told = self.direct_queue.activity_ids.filtered(lambda one: one.user_id == self.manager)
        self.assertEqual(len(told), 1)
        self.assertIn(self.direct_model.name, told.summary)
        self._run(by_requests(*DENIED))
        self.service.chunks = self.good
        self.direct_queue.with_user(self.manager).action_process_queue()
        self.assertEqual(job.state, "completed")
        self.assertFalse(self._pauses())

    def test_a_longer_pause_of_a_model_is_never_shortened(self):
        self.direct_queue.max_concurrent_jobs = 2
        for _job in range(2):
            self._asked()
        claims, _waits = self._engine()._claim(2, queue_ids=self.direct_queue.ids)
        for claim, wait in zip(claims, (50, 5), strict=True):
            limited = {"error_type": "rate_limited", "scope": "model", "retry_after": wait}
            self._apply(claim, state="failed", **limited)
        self.assertAlmostEqual(self._left(self._pauses()), 50, delta=20)

    # === THE ACCOUNT === #

    def test_an_account_without_credit_pauses_the_queue_keeps_jobs_and_tells_managers(self):
        for client in CLIENTS:
            for said in (BUDGET, NO_CREDIT):
                with self.subTest(client=client.__name__, said=said):
                    self.direct_queue.activity_ids.unlink()
                    jobs = self._asked() + self._asked(self.other_model)
                    self.assertEqual(self._run(client(*said)), 1)
                    self.assertEqual(jobs.mapped("state"), ["queued", "queued"])
                    self.assertAlmostEqual(
                        self._left(self.direct_queue), backoff.REFUSED_DELAY, delta=5
                    )
                    self.assertEqual(self.direct_queue.refused_by, "quota")
                    self.assertIn(self.manager, self.direct_queue.activity_ids.user_id)
                    self.assertEqual(self._run(), 0)
                    self._resume()
                    self.assertEqual(self._run(), 2)
                    self.assertEqual(set(jobs.mapped("state")), {"completed"})

    # === BOUNDS === #

    def test_nothing_comes_back_for_ever(self):
        kinds = {
            "account": exceptions.RateLimitedError("Slowly.", retry_after=2),
            "model": exceptions.RateLimitedError("Slowly.", retry_after=2, scope="model"),
            "quota": exceptions.QuotaExceededError("Pay."),
            "denied": by_requests(*DENIED),
        }
        with patch.object(backoff, "MAX_SNOOZES", 6):
            for name, error in kinds.items():
                with self.subTest(name):
                    job = self._asked(max_retries=2)
                    self.assertEqual(self._calls_until_the_end(job, error), 6 + 1 + 2)
                    self.assertTrue(job.error_message)

    def test_a_thread_that_is_busy_for_ever_ends_its_job(self):
        job = self._asked(max_retries=0)
        with patch.object(backoff, "MAX_SNOOZES", 2):
            for state in ("queued", "queued", "failed"):
                claim = self._claim(job)
                self._apply(claim, state="failed", error_type="busy", retry_after=5.0)
                self.assertEqual(job.state, state)
                self._resume(job)

    def test_who_is_given_back_goes_behind_those_who_wait(self):
        first = self._asked()
        others = [self._asked(user=self.manager), self._asked()]
        self._run(exceptions.RateLimitedError("Slowly.", retry_after=20))
        self.assertEqual(first.attempt_count, 1)
        self._resume()
        order, claim = [], type(self._engine())._claim

        def noting(engine, *args, **kwargs):
            claims, waits = claim(engine, *args, **kwargs)
            order.extend(one.job_id for one in claims)
            return claims, waits

        with patch.object(type(self._engine()), "_claim", noting):
            self.assertEqual(self._run(), 3)
        self.assertEqual(order, [others[0].id, others[1].id, first.id])

    def test_an_odd_wait_is_an_hour_and_says_why(self):
        for wait in ("86400000", "1771404540"):
            with self.subTest(wait=wait):
                job = self._asked()
                self._run(by_requests(429, "Slowly.", None, **{"Retry-After": wait}))
                self.assertAlmostEqual(self._left(self.direct_queue), 3600, delta=5)
                self.assertIn("Slowly.", job.error_message)
                self.assertIn("asked again after an hour", job.error_message)
                self.assertEqual(job.error_message, job.attempt_ids.error_message)
                job.action_cancel()
                self.direct_queue.paused_until = False

    def test_a_job_at_its_provider_is_asked_about_within_the_hour(self):
        for wait in (86_400_000.0, 1e300):
            with self.subTest(wait=wait):
                job = self._create_job("queued")
                self._process_queue()
                limited = exceptions.RateLimitedError("Slowly.", retry_after=wait)
                self.service.answers["check"] = [limited]
                self._engine()._check_due()
                self.assertEqual(job.state, "running")
                left = (job.next_poll_at - fields.Datetime.now()).total_seconds()
                self.assertLess(left, 3601)
                job.action_cancel()

    # === QUICK TRIES === #

    def test_what_cost_nothing_is_tried_again_within_seconds_at_no_cost(self):
        refused = MaxRetryError(None, "/", NewConnectionError(None, "Connection refused"))
        cut = "('Connection aborted.', RemoteDisconnected('closed without response'))"
        httpx = of_httpx("ReadError", "NetworkError", "", ConnectionResetError())
        kinds = {
            "nobody listens": requests.ConnectionError(refused),
            "reset before the first byte": requests.ConnectionError(cut),
            "reset, by httpx": httpx,
            "reset, by openai": raised(library("APIConnectionError", *OPENAI)("No."), httpx),
            "502": by_requests(502, "Bad gateway", None),
            "503": by_openai(503, "Unavailable", None),
        }
        for name, error in kinds.items():
            with self.subTest(name):
                job = self._asked(max_retries=1)
                for seconds in (1, 4, 15):
                    self.assertEqual(self._run(error), 1)
                    self.assertEqual((job.state, job.retry_count), ("queued", 0))
                    wait = (job.scheduled_at - fields.Datetime.now()).total_seconds()
                    self.assertAlmostEqual(wait, seconds, delta=seconds / 4 + 1.5)
                    self.assertFalse(self.direct_queue.paused_until)
                    self.assertEqual(self._run(), 0)
                    self._resume(job)
                self.assertEqual(self._run(error), 1)
                self.assertEqual((job.state, bool(job.retry_at)), ("failed", True))
                self._resume(job)
                self.assertEqual(self._run(), 1)
                self.assertEqual((job.state, job.retry_count), ("completed", 1))

    def test_a_failure_that_may_have_cost_is_tried_again_soon_once_and_counts(self):
        job = self._asked()
        self.assertEqual(self._run(by_requests(500, "Oops", None)), 1)
        self.assertEqual(job.state, "failed")
        self.assertLessEqual(job._seconds_to_retry(), 6)
        self._resume(job)
        self.assertEqual(self._run(), 1)
        self.assertEqual((job.state, job.retry_count), ("completed", 1))

    def test_what_was_silent_for_long_before_it_was_cut_may_have_cost(self):
        job = self._asked()
        error = requests.ConnectionError("('Connection aborted.', RemoteDisconnected('closed'))")
        began = CallRecorder.ask

        def ask(recorder, *args, **kwargs):
            events = began(recorder, *args, **kwargs)
            recorder.asked_at -= 60
            return events

        with patch.object(CallRecorder, "ask", ask):
            self.assertEqual(self._run(error), 1)
        self.assertEqual((job.state, job.error_type), ("failed", "unknown_outcome"))
        self.assertTrue(job.retry_at)

    def test_what_broke_after_the_first_word_may_have_cost(self):
        for error in (
            by_requests(502, "Bad gateway", None),
            requests.ConnectionError("Connection aborted."),
        ):
            with self.subTest(error=error):
                job = self._asked()
                self.service.chunks = [{"content": "Half"}, error]
                self._process_queue(self.direct)
                self.assertEqual((job.state, bool(job.retry_at)), ("failed", True))

    def test_a_job_that_was_submitted_when_the_connection_broke_is_not_submitted_at_once(self):
        self.service.answers["create"] = [requests.ConnectionError("Connection aborted.")]
        job = self._create_job("queued")
        self._process_queue()
        self.assertEqual((job.state, job.error_type), ("failed", "unknown_outcome"))
        self.assertEqual(len(self.service.calls["create"]), 1)
