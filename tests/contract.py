"""The contract of a provider, as tests that any provider's module inherits.

A provider's author writes a test class from the parts that fit, on `LlmGenerationCommon`:

- `JobContract` for a provider that runs jobs, `DirectContract` for one that only answers;
- `HttpContract` of `contract_http.py` besides, for one that is reached over HTTP, and
  `BoundsContract` for one that reads what comes from there with bounds;
- `WebhookContract` of the same file besides, for one that sends webhooks.

    class TestMyProvider(HttpContract, JobContract, LlmGenerationCommon):
        @classmethod
        def setUpClass(cls):
            super().setUpClass()
            cls.remote = FakeMine()                      # a `FakeHttpService`, see `fake_http.py`
            cls.addClassCleanup(cls.remote.close)
            cls.provider, cls.model = cls._create_provider("Mine", "mine")
            cls.provider.write({"api_base": cls.remote.url, "api_key": SECRET})

`remote` stands for the provider's side. It has

- `reset()`: forget what came, and be well; called before each test;
- `refuse(meaning, retry_after=None)`: the next call fails as the exception of `exceptions.py`
  with that `error_type` says; a `FakeHttpService` has it, and what `HttpContract` wants besides;
- `submitted`: how many jobs were taken on, or answers begun;
- `text`: what a good answer says, a part of the message's body;
- for direct answers, `break_off()`: the next answer ends in its middle;
- for jobs, `state`: what is said of each job from now on, in the words of
  `check_generation_job_status()`, and `cancelled`: how many were cancelled there;
- for webhooks, `webhook(external_id, timestamp=None)`: the headers (names in lower case) and the
  body of a genuine webhook.
"""

from datetime import timedelta

from odoo import fields

#: A failed call's meaning: the job's state afterwards, whether it is retried by itself, and
#: whether the whole queue waits.
OUTCOMES = {
    "rate_limited": ("queued", False, True),
    "overloaded": ("queued", False, False),
    "transient": ("failed", True, False),
    "unknown_outcome": ("failed", True, False),
    "quota": ("queued", False, True),
    "authentication": ("queued", False, True),
    "bad_request": ("failed", False, False),
}


class Contract:
    """What holds for every provider."""

    allow_inherited_tests_method = True

    def setUp(self):
        super().setUp()
        self.remote.reset()
        self.provider_queue = self.env["llm.generation.queue"]._get_or_create_queue(self.provider)

    def _ask(self, **values):
        """Queue a job and start what may start."""
        job = self._create_job("queued", model=self.model, **values)
        self._process_queue(self.provider)
        return job

    def _finish(self, job):
        """Have the provider finish, and ask it."""
        self.remote.state = "completed"
        self._engine()._check_due()
        return job

    def _pass_time(self, job):
        """Let all waits be over, and start what may start."""
        self.provider_queue.write({"paused_until": False, "refused_by": False})
        if job.state == "queued":
            job.write({"scheduled_at": False, "is_scheduled": False})
        elif job.retry_at:
            job.retry_at = fields.Datetime.now() - timedelta(seconds=1)
            self._engine()._retry_due()
        self._process_queue(self.provider)

    def _answers(self, job):
        """Return the answers in the job's thread, notices of errors left out."""
        messages = job.thread_id.message_ids
        return messages.filtered(lambda one: one.llm_role == "assistant" and not one.is_error)

    def _assert_answered(self, job):
        self.assertEqual((job.state, job.error_message), ("completed", False))
        answer = self._answers(job)
        self.assertEqual(answer, job.output_message_id)
        self.assertEqual(len(answer), 1)
        self.assertIn(self.remote.text, answer.body)

    def test_contract_a_job_is_answered_once(self):
        job = self._finish(self._ask())

        self._assert_answered(job)
        self._engine()._check_due()
        self._process_queue(self.provider)
        self._assert_answered(job)
        self.assertEqual(self.remote.submitted, 1)
        self.assertEqual(job.attempt_ids.mapped("outcome"), ["completed"])

    def test_contract_a_failure_has_the_outcome_of_its_meaning(self):
        for meaning, (state, is_retried, is_paused) in OUTCOMES.items():
            with self.subTest(meaning):
                self.remote.refuse(meaning)

                job = self._ask()

                self.assertEqual((job.state, job.error_type), (state, meaning))
                self.assertEqual(bool(job.retry_at), is_retried)
                self.assertEqual(bool(self.provider_queue.paused_until), is_paused)
                self.assertFalse(self._answers(job))
                self.assertTrue(job.error_message)
                (attempt,) = job.attempt_ids
                self.assertEqual(attempt.error_type, meaning)
                self._pass_time(job)
                if state == "queued" or is_retried:
                    self._assert_answered(self._finish(job))
                    self.assertEqual(job.retry_count, 1 if is_retried else 0)
                self.provider_queue.write({"paused_until": False, "refused_by": False})
                self.remote.reset()

    def test_contract_a_rate_limit_is_waited_for_without_a_call(self):
        self.remote.refuse("rate_limited", retry_after=20)
        job = self._ask()
        wait = (self.provider_queue.paused_until - fields.Datetime.now()).total_seconds()
        other = self._ask()

        self.assertAlmostEqual(wait, 20, delta=2)
        self.assertEqual(self.remote.submitted, 0)
        self.assertEqual(set((job + other).mapped("state")), {"queued"})

        self._pass_time(job)
        self._finish(job)
        for one in job + other:
            self._assert_answered(one)
            self.assertEqual(one.retry_count, 0)
        self.assertEqual(self.remote.submitted, 2)

    def test_contract_a_job_that_was_cancelled_first_is_not_submitted(self):
        job = self._create_job("queued", model=self.model)
        job.action_cancel()

        self._process_queue(self.provider)

        self.assertEqual(self.remote.submitted, 0)
        self.assertEqual(job.state, "cancelled")


class DirectContract(Contract):
    """What holds for a provider that answers and runs no jobs."""

    def test_contract_it_says_that_it_runs_no_jobs(self):
        info = self.provider.get_generation_queue_info()

        self.assertFalse(info["supports_jobs"])
        self.assertTrue(info["supports_streaming"])
        self.assertFalse(self._ask().external_job_id)

    def test_contract_an_answer_that_breaks_off_is_kept_and_replaced(self):
        self.remote.break_off()

        job = self._ask()

        self.assertEqual(job.state, "failed")
        self.assertTrue(job.retry_at)
        self.assertFalse(self._answers(job))
        partial = job.output_message_id
        self.assertTrue(partial.is_error)
        self._pass_time(job)
        self._assert_answered(job)
        self.assertFalse(partial.exists())


class JobContract(Contract):
    """What holds for a provider that runs jobs of its own."""

    def test_contract_it_says_that_it_runs_jobs(self):
        self.assertTrue(self.provider.get_generation_queue_info()["supports_jobs"])

    def test_contract_a_job_that_waits_there_is_submitted_once(self):
        job = self._ask()
        for state in ("queued", "running", "queued"):
            self.remote.state = state
            self._engine()._check_due()
            self._process_queue(self.provider)

            self.assertEqual(job.state, "running")
            self.assertTrue(job.external_job_id)
            self.assertTrue(job.next_poll_at)
        self.assertEqual(self.remote.submitted, 1)
        self._assert_answered(self._finish(job))

    def test_contract_a_question_that_fails_says_nothing_about_the_job(self):
        job = self._ask()
        for meaning in OUTCOMES.keys() - {"bad_request"}:
            with self.subTest(meaning):
                self.remote.refuse(meaning)

                self._engine()._check_due()

                self.assertEqual(job.state, "running")
                self.assertFalse(self._answers(job))
        self._assert_answered(self._finish(job))

    def test_contract_two_that_ask_at_once_post_one_answer(self):
        job = self._ask()
        self.remote.state = "completed"
        claims = self._engine()._claim_polls(1, now=True)
        job_contexts = [self._engine()._prefetch(claims)[0] for _asker in range(2)]

        for job_context in job_contexts:
            self._engine()._poll(job_context)

        self._assert_answered(job)

    def test_contract_what_fails_or_is_cancelled_there_ends_here(self):
        for state in ("failed", "cancelled"):
            with self.subTest(state):
                job = self._ask()
                self.remote.state = state

                self._engine()._check_due()

                self.assertEqual(job.state, state)
                self.assertFalse(self._answers(job))
                self.assertTrue(job.error_message or state == "cancelled")
                self.remote.reset()

    def test_contract_a_retry_of_what_failed_there_is_a_new_job(self):
        job = self._ask()
        self.remote.state = "failed"
        self._engine()._check_due()
        self.remote.state = "running"

        job.action_retry()
        self._process_queue(self.provider)

        self.assertEqual((job.state, self.remote.submitted), ("running", 2))
        self._assert_answered(self._finish(job))

    def test_contract_cancelling_is_told_and_may_be_told_again(self):
        job = self._ask()

        job.action_cancel()

        self.assertEqual((job.state, self.remote.cancelled), ("cancelled", 1))
        self.assertIsInstance(self.provider.cancel_generation_job(job), bool)
        self._finish(job)
        self.assertEqual(job.state, "cancelled")
        self.assertFalse(self._answers(job))

    def test_contract_a_job_that_is_cancelled_while_it_is_submitted_is_cancelled_there(self):
        job = self._create_job("queued", model=self.model)
        claim = self._claim(job)
        (job_context,) = self._engine()._prefetch([claim])
        job.action_cancel()

        self._engine()._run(job_context)
        self._engine()._cancel_at_providers()

        self.assertEqual(job.state, "cancelled")
        self.assertEqual((self.remote.submitted, self.remote.cancelled), (1, 1))
