"""The parts of the contract that are about HTTP and about webhooks; see `contract.py`."""

import logging
import time
import tracemalloc
from datetime import timedelta

from odoo import fields
from odoo.tools import mute_logger

from .fake_http import bomb, maze

WEBHOOK_LOG = "odoo.addons.llm_generate_job.engine.webhook"


class HttpContract:
    """What holds for a provider that is reached over HTTP, whatever the network does.

    `remote` orders what the network does to the next answer: `be_slow(seconds)`, `be_silent()`,
    `talk_nonsense()`, `hang_up()` in its middle; its `refuse()` takes a `text`, and `requests`,
    where it has them, are those that came. A `FakeHttpService` has all of it.
    `self.patience()` is a context in which the provider waits for less than a second.
    """

    def test_contract_a_slow_answer_is_an_answer(self):
        self.remote.be_slow(0.3)

        self._assert_answered(self._finish(self._ask()))

    def test_contract_silence_ends(self):
        self.remote.be_silent()
        start = time.monotonic()

        with self.patience():
            job = self._ask()

        self.assertLess(time.monotonic() - start, 10)
        self.assertEqual((job.state, job.error_type), ("failed", "unknown_outcome"))
        self.assertTrue(job.retry_at)

    def test_contract_garbage_and_halves_are_no_answers(self):
        for fault, comes_again in (("talk_nonsense", False), ("hang_up", True)):
            with self.subTest(fault):
                getattr(self.remote, fault)()

                job = self._ask()

                self.assertEqual(job.state, "failed")
                self.assertEqual(bool(job.retry_at), comes_again, job.error_message)
                self.assertFalse(self._answers(job))
                if not comes_again:
                    job.action_retry()
                self._pass_time(job)
                self._assert_answered(self._finish(job))
                self.remote.reset()

    def test_contract_no_key_is_told_by_anything(self):
        secret = self.provider.api_key
        text = f"The key {secret} is wrong. Authorization: Bearer {secret}"
        with self.assertLogs(level=logging.INFO) as log:
            for meaning in ("bad_request", "authentication", "transient"):
                self.remote.refuse(meaning, text=text)
                job = self._ask()
                told = [log.output, self._values(job), self._values(job.attempt_ids)]
                told += [job.thread_id.message_ids.mapped("body")]
                self.assertTrue(job.error_message)
                self.assertNotIn(secret, repr(told))
                self.provider_queue.write({"paused_until": False, "refused_by": False})
                if job.state == "queued":
                    job.action_cancel()
        if hasattr(self.remote, "requests"):
            self.assertTrue(any(secret in repr(one.headers) for one in self.remote.requests))


class BoundsContract:
    """What holds for a provider that reads with bounds; `remote` is a `FakeHttpService`."""

    def test_contract_an_answer_that_grows_is_no_answer(self):
        for fault in (bomb, maze):
            with self.subTest(fault.__name__):
                self.remote.fault(fault)
                tracemalloc.start()
                try:
                    job = self._ask()
                    peak = tracemalloc.get_traced_memory()[1]
                finally:
                    tracemalloc.stop()

                self.assertLess(peak, 30_000_000)
                self.assertRecordValues(job, [{"state": "failed", "error_type": "unreadable"}])
                self.assertFalse(job.retry_at)
                job.action_retry()
                self._pass_time(job)
                self._assert_answered(self._finish(job))
                self.remote.reset()


class WebhookContract:
    """What holds for a provider that sends webhooks, besides `JobContract`."""

    def _send(self, job, headers, body):
        receive = self._engine()._receive
        status = receive(job.id, job.webhook_token, headers, body)
        self.env.invalidate_all()
        return status

    def _due(self):
        """Ask about the jobs that are due, as a server does."""
        claims = self._engine()._claim_polls(10)
        for job_context in self._engine()._prefetch(claims):
            self._engine()._poll(job_context)
        return len(claims)

    def _waiting(self):
        job = self._ask()
        job.next_poll_at = fields.Datetime.now() + timedelta(hours=1)
        self.assertEqual(self._due(), 0)
        return job

    def test_contract_a_webhook_spares_the_wait(self):
        job = self._waiting()
        self.remote.state = "completed"

        self.assertEqual(self._send(job, *self.remote.webhook(job.external_job_id)), 200)

        self.assertEqual(job.state, "running")
        self.assertEqual(self._due(), 1)
        self._assert_answered(job)

    def test_contract_a_lost_webhook_loses_nothing(self):
        self._assert_answered(self._finish(self._waiting()))

    @mute_logger(WEBHOOK_LOG)
    def test_contract_doubled_webhooks_end_the_job_once(self):
        job = self._waiting()
        self.remote.state = "completed"
        headers, body = self.remote.webhook(job.external_job_id)

        statuses = [self._send(job, headers, body) for _time in range(3)]
        self._due()
        again = self.remote.webhook(job.external_job_id, time.time() + 1)
        statuses.append(self._send(job, *again))

        self.assertEqual(statuses, [200, 200, 200, 200])
        self.assertEqual(self._due(), 0)
        self._assert_answered(job)

    @mute_logger(WEBHOOK_LOG)
    def test_contract_a_webhook_that_is_not_genuine_changes_nothing(self):
        job, other = self._waiting(), self._waiting()
        self.remote.state = "completed"
        headers, body = self.remote.webhook(job.external_job_id)
        before = self._values(job + other)
        cases = {
            "forged": (headers, body + b" "),
            "unsigned": ({}, body),
            "stale": self.remote.webhook(job.external_job_id, time.time() - 310),
            "from the future": self.remote.webhook(job.external_job_id, time.time() + 310),
            "about another job": self.remote.webhook(other.external_job_id),
        }

        for name, (given, content) in cases.items():
            with self.subTest(name):
                self.assertEqual(self._send(job, given, content), 401)
                self.assertEqual(self._values(job + other), before)
        wrong = self._engine()._receive(job.id, other.webhook_token, headers, body)
        self.assertEqual(wrong, 404)
        self.assertEqual(self._due(), 0)
