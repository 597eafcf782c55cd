import json
import logging
import time
from datetime import timedelta

from odoo import fields
from odoo.exceptions import AccessError
from odoo.tests import HttpCase
from odoo.tools import mute_logger

from ..const import WEBHOOK_PATH
from ..controllers.webhook import BODY_LIMIT
from ..engine.webhook import HINT_PAUSE
from ..protocol.answer import Answer, Claim
from .common import LlmGenerationCommon, posted
from .signatures import new_secret, sign_standard

MODEL_LOG = "odoo.addons.llm_generate_job.engine.webhook"


class TestWebhook(LlmGenerationCommon, HttpCase):
    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.secret = new_secret()
        cls.queue.webhook_secret = cls.secret

    def setUp(self):
        super().setUp()
        self.job = self._submitted_job()

    def _submitted_job(self, external="ext-1"):
        self.service.answers["create"] = [external]
        job = self._create_job("queued")
        self._process_queue()
        job.next_poll_at = fields.Datetime.add(fields.Datetime.now(), hours=1)
        return job

    def _body(self, external="ext-1"):
        return json.dumps({"id": external, "status": "succeeded"}).encode()

    def _send(self, job=None, body=None, headers=None, token=None, **signing):
        """Send a webhook, by default a genuine one, and return the HTTP status."""
        job = job or self.job
        body = self._body() if body is None else body
        headers = headers or sign_standard(self.secret, body, **signing)
        token = token or job.webhook_token
        response = self.url_open(
            f"{WEBHOOK_PATH}/{job.id}/{token}",
            data=body,
            headers={"Content-Type": "application/json", **headers},
        )
        self.env.invalidate_all()
        return response.status_code

    def _is_due(self, job):
        return job.next_poll_at <= fields.Datetime.now()

    def _answers_of(self, job):
        return job.thread_id.message_ids.filtered(lambda one: one.llm_role == "assistant")

    def test_a_webhook_makes_the_job_be_asked_about_and_is_not_believed(self):
        self.url_open("/web/health")  # the first request of all builds the routes
        start = time.monotonic()

        self.assertEqual(self._send(), 200)

        self.assertLess(time.monotonic() - start, 1)
        self.assertTrue(self._is_due(self.job))
        self.assertEqual(self.job.state, "running")
        self.assertFalse(self.service.calls["check"])

    def test_webhook_and_poll_and_cancel_end_the_job_once(self):
        self.service.answers["check"] = [posted("Hello")]
        self._send()
        claims = self._engine()._claim_polls(1)
        job_contexts = [self._engine()._prefetch(claims)[0] for _asker in range(2)]
        for job_context in job_contexts:
            self._engine()._poll(job_context)
        self._send(message_id="msg_2")
        self._refusal(self.job.action_cancel)

        self.assertEqual(self.job.state, "completed")
        self.assertEqual(len(self._answers_of(self.job)), 1)
        self.assertEqual(self.job.attempt_ids.mapped("outcome"), ["completed"])

    def test_what_is_not_genuine_is_refused_and_changes_nothing(self):
        other = self._submitted_job("ext-2")
        body, old = self._body(), time.time() - 301
        cases = {
            "forged": ({"headers": sign_standard(new_secret(), body)}, 401),
            "unsigned": ({"headers": {"webhook-id": "msg_1"}}, 401),
            "changed": (
                {"body": b'{"id": "ext-1"}', "headers": sign_standard(self.secret, body)},
                401,
            ),
            "stale": ({"timestamp": old}, 401),
            "from the future": ({"timestamp": time.time() + 302}, 401),
            "of another job": ({"body": self._body("ext-2")}, 401),
            "with another job's token": ({"token": other.webhook_token}, 404),
            "with a wrong token": ({"token": "x" * 43}, 404),
            "with a token not ASCII": ({"token": "é"}, 404),
            "too large": ({"body": b" " * (BODY_LIMIT + 1)}, 413),
        }
        before = self._values(self.job + other)
        for name, (values, status) in cases.items():
            with self.subTest(name), mute_logger(MODEL_LOG, "odoo.http"):
                self.assertEqual(self._send(**values), status)
                self.assertEqual(self._values(self.job + other), before)

    def test_one_that_is_sent_again_and_again_asks_at_most_once_in_a_few_seconds(self):
        headers = sign_standard(self.secret, self._body())
        engine = self._engine()
        self.assertEqual(self._send(headers=headers), 200)
        [claim] = engine._claim_polls(5)
        self._apply(claim, state="running", poll_after=60)  # until then nobody else asks

        for _time in range(5):
            self.assertEqual(self._send(headers=headers), 200)
            self.assertFalse(engine._claim_polls(5))
            left = (self.job.next_poll_at - fields.Datetime.now()).total_seconds()
            self.assertLessEqual(left, HINT_PAUSE + 1)

        # A real one among them is not lost: its question comes after the pause, once.
        before = fields.Datetime.now() - timedelta(seconds=HINT_PAUSE + 1)
        self.job.write({"hinted_at": before, "next_poll_at": before})
        [claim] = engine._claim_polls(5)
        self.assertFalse(engine._claim_polls(5))
        self.assertEqual(self._send(headers=headers), 200)
        self._apply(claim, state="running")
        self.assertEqual(len(engine._claim_polls(5)), 1)

    def test_one_that_is_sent_again_puts_no_question_off(self):
        soon = fields.Datetime.now() - timedelta(seconds=1)
        self._send()
        self.job.next_poll_at = soon
        self._send()
        self.assertEqual(self.job.next_poll_at, soon)

    @mute_logger(MODEL_LOG)
    def test_without_a_secret_all_are_refused(self):
        self.queue.webhook_secret = False
        before = self._values(self.job)

        self.assertEqual(self._send(), 401)
        self.assertEqual(self._values(self.job), before)

    def test_a_job_that_has_ended_stays_as_it_is(self):
        self.job.action_cancel()
        before = self._values(self.job)

        self.assertEqual(self._send(), 200)
        self.assertEqual(self._values(self.job), before)

    def test_an_unknown_job_is_not_found(self):
        job = self._submitted_job("ext-3")
        token = job.webhook_token
        job.action_cancel()
        job.unlink()

        self.assertEqual(self._send(job=job, token=token), 404)
        for number in (0, 2**31, 10**400):
            response = self.url_open(f"{WEBHOOK_PATH}/{number}/{token}", data=b"{}")
            self.assertEqual(response.status_code, 404)

    def test_a_webhook_that_is_faster_than_our_commit_is_remembered(self):
        job = self._create_job("running")
        self.assertFalse(job.external_job_id)
        self.assertEqual(self._send(job=job, body=self._body("ext-9")), 200)
        claim = Claim(job.id, job.attempt_token)

        self._engine()._apply([(claim, Answer("running", external_job_id="ext-9"))])

        self.assertTrue(self._is_due(job))

    def test_a_webhook_that_comes_while_we_ask_is_not_forgotten(self):
        def check(job):
            self._engine()._receive(
                job.id,
                job.sudo().webhook_token,
                sign_standard(self.secret, self._body()),
                self._body(),
            )
            return {"state": "running", "poll_after": 60}

        self.service.answers["check"] = [check, {"state": "running", "poll_after": 60}]

        self._engine()._check_due()
        self.assertTrue(self._is_due(self.job))

        self._engine()._check_due()
        self.assertFalse(self._is_due(self.job))

    def test_the_token_is_in_no_log_and_nobody_reads_it(self):
        request = f"POST {WEBHOOK_PATH}/{self.job.id}/{self.job.webhook_token} HTTP/1.1"
        with self.assertLogs("werkzeug", logging.INFO) as log:
            logging.getLogger("werkzeug").info('127.0.0.1 - "%s" %s', request, 200)
            logging.getLogger("werkzeug").info('127.0.0.1 - "%s" 200', request)

        hidden = f"{WEBHOOK_PATH}/{self.job.id}/[hidden] HTTP/1.1"
        self.assertEqual([hidden in line for line in log.output], [True, True])
        self.assertNotIn(self.job.webhook_token, "".join(log.output))
        for user in (self.user, self.manager):
            with self.assertRaises(AccessError):
                self.job.with_user(user).read(["webhook_token"])

    def test_tokens_are_long_and_of_one_job(self):
        tokens = {self._create_job().webhook_token for _number in range(20)}

        self.assertEqual(len(tokens), 20)
        self.assertGreaterEqual(min(map(len, tokens)), 43)
        self.assertNotIn(self.job.copy().webhook_token, {self.job.webhook_token})

    def test_a_provider_gets_an_address_only_where_it_can_be_used(self):
        config = self.env["ir.config_parameter"]
        config.set_param("web.base.url", "http://localhost:8069")
        self.assertFalse(self.job.with_user(self.user)._webhook_url())

        config.set_param("web.base.url", "https://odoo.example.com")
        self.assertEqual(
            self.job.with_user(self.user)._webhook_url(),
            f"https://odoo.example.com{WEBHOOK_PATH}/{self.job.id}/{self.job.webhook_token}",
        )

    def test_a_form_or_a_get_is_no_webhook(self):
        path = f"{WEBHOOK_PATH}/{self.job.id}/{self.job.webhook_token}"
        before = self._values(self.job)

        with mute_logger("odoo.http", MODEL_LOG):
            self.assertEqual(self.url_open(path).status_code, 405)
            self.assertEqual(self.url_open(path, data={"id": "ext-1"}).status_code, 401)

        self.assertEqual(self._values(self.job), before)
