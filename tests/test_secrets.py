import json
import logging
from unittest.mock import patch

import requests

from odoo.exceptions import AccessError, UserError
from odoo.tests import new_test_user
from odoo.tools import mute_logger

from .. import exceptions
from ..models import llm_provider
from ..models.llm_provider import read_secret
from .common import LlmGenerationCommon

#: One that looks like a key, and one that does not.
KEYS = ("sk-proj-canarysecret12345678", "correct.horse.battery")


def _http_error(text, status=401):
    response = requests.Response()
    response.status_code, response._content = status, text.encode()
    response.url = "https://api.example/v1"
    return requests.HTTPError(f"{status} for url: {response.url}", response=response)


def _chained(text):
    error = RuntimeError("It broke.")
    error.__cause__ = ValueError(text)
    return error


#: What a service answers or raises: a function of a text that tells its key.
ANSWERS = {
    "id": lambda text: text[:200],
    "id of a dict": lambda text: {"state": "queued", "external_job_id": text[:200]},
    "data": lambda text: {
        "state": "queued",
        "external_job_id": "x",
        "provider_data": {"echo": [text, {text: 1}], "headers": {"authorization": text}},
    },
    "error": lambda text: {"state": "failed", "error_message": text},
    "strange state": lambda text: {"state": text},
    "exception": ValueError,
    "user error": UserError,
    "rate limit": exceptions.RateLimitedError,
    "quota": exceptions.QuotaExceededError,
    "http": _http_error,
    "http json": lambda text: _http_error(json.dumps({"error": {"message": text, "code": text}})),
    "http cut": lambda text: _http_error("x" * 490 + text),
    "connection": requests.ConnectionError,
    "in its cause": _chained,
}
#: What a service streams: exceptions are raised.
STREAMS = {
    "word": lambda text, key: [{"content": text}],
    "pieces": lambda text, key: [{"content": key[:5]}, {"content": key[5:]}, {"content": "."}],
    "error": lambda text, key: [{"content": "Hm. "}, {"error": text}],
    "error first": lambda text, key: [{"error": {"message": text}}],
    "exception": lambda text, key: [{"content": "Hm. "}, ValueError(text)],
    "user error": lambda text, key: [{"content": "Hm. "}, UserError(text)],
    "http": lambda text, key: [_http_error(text)],
    "tool call": lambda text, key: [
        {"tool_calls": [{"id": "1", "function": {"name": text, "arguments": json.dumps(text)}}]}
    ],
    "usage": lambda text, key: [{"content": "Hi"}, {"usage": {text: text, "prompt_tokens": 1}}],
}
#: All of Odoo, but for its statements: to that level they are not logged.
LOGS = "odoo"
_logger = logging.getLogger(__name__)


class TestSecrets(LlmGenerationCommon):
    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.admin = cls.env.ref("base.user_admin")
        cls.admin.group_ids += cls.env.ref("base.group_allow_export")

    def test_a_secret_that_was_used_opens_nothing(self):
        job = self._create_job("running")
        self.native.company_id = self.env["res.company"].create({"name": "Elsewhere"})
        self.queue.webhook_secret = "c2VjcmV0"
        self.env["ir.config_parameter"].set_param("web.base.url", "https://odoo.example.com")
        self.env.flush_all()
        outsider = new_test_user(self.env, "outsider", "llm.group_llm_manager")
        # Refused for the company, or for the group: one of them each llm asks for.
        stranger = new_test_user(self.env, "stranger", "base.group_user")
        queue, job = self.queue.with_user(outsider), job.with_user(outsider)
        uses = {
            "has_webhook_secret": (queue, lambda: self.assertFalse(queue.has_webhook_secret)),
            "verify": (
                self.native.with_user(stranger),
                lambda: self._refusal(
                    self.native.with_user(stranger)._verify_generation_webhook,
                    job,
                    {},
                    b"",
                    error=AccessError,
                ),
            ),
        }
        for name, (record, use) in uses.items():
            self.env.invalidate_all()
            with self.subTest(use=name):
                use()
                with self.assertRaises(AccessError):
                    record.display_name  # noqa: B018 reading is the test

    def test_the_address_for_webhooks_is_told_to_who_may_read_the_job(self):
        self.env["ir.config_parameter"].set_param("web.base.url", "https://odoo.example.com")
        job = self._create_job("running")
        other = new_test_user(self.env, "outsider", "base.group_user")
        self.env.flush_all()
        self.env.invalidate_all()
        self.assertIn(f"/{job.id}/", job.with_user(self.user)._webhook_url())

        self.env.invalidate_all()
        for what in ("_webhook_url", "_bus_payload"):
            with self.subTest(method=what), self.assertRaises(AccessError):
                getattr(job.with_user(other), what)()

    def test_a_secret_that_was_read_is_in_no_cache(self):
        self.native.api_key = KEYS[1]
        self.queue.webhook_secret = "c2VjcmV0"
        job = self._create_job("running")
        secrets = (
            (self.native, "api_key"),
            (self.queue, "webhook_secret"),
            (job, "webhook_token"),
        )
        for record, name in secrets:
            self.env.flush_all()
            self.env.invalidate_all()
            with self.subTest(field=name):
                self.assertGreater(len(read_secret(record, name)), 7)
                self.assertFalse(record._fields[name]._get_cache(self.env))
        self.assertEqual(self.native._read_api_key(), self.native._told_key())
        self.assertFalse(self.native._fields["api_key"]._get_cache(self.env))

    def test_nothing_tells_a_key_that_was_read_without_a_cache(self):
        def answer(job):
            return ANSWERS["data"](f"Taken from {job.provider_id._read_api_key()}")

        self.native.sudo().api_key = KEYS[1]
        self.service.answers["create"] = [answer]
        job = self._create_job("queued")
        self.env.flush_all()
        self.env.invalidate_all()

        self._assert_nothing_tells(KEYS[1], job, self._process_queue)

        self.assertIn("[hidden]", json.dumps(job.provider_data))

    def _told(self, make):
        """Return an answer of a service that used its key and tells it."""

        def answer(job):
            key = job.provider_id.sudo().api_key
            value = make(f"Refused {key} of this account")
            if isinstance(value, BaseException):
                raise value
            return value

        return answer

    def _all_that_is_told(self, job):
        """Return all that anybody is shown, sent or given of a job and what is around it."""
        self.env.flush_all()
        self.env.invalidate_all()
        told = []
        for user in (job.user_id, self.admin):
            mine, thread = job.with_user(user), job.thread_id.with_user(user)
            told += [mine.read(), mine.attempt_ids.read(), mine._bus_payload()]
            told += [thread.get_generation_history(), thread.get_generation_stats()]
            told += [self._conversation(thread), thread.read(), thread.message_ids.read()]
            queue = self.env["llm.generation.queue"]._get_or_create_queue(job.provider_id)
            queue = queue.with_user(user)
            told += [queue.get_queue_stats(), queue.message_ids.read()]
            told += [queue.get_dashboard()] if user == self.admin else []
            told += [queue.activity_ids.read(), job.provider_id.with_user(user).read(["name"])]
        names = [name for name, field in job._fields.items() if not field.groups]
        told.append(job.with_user(self.admin).export_data(names))
        told.append(self._values(job) + self._values(job.attempt_ids))
        return repr(told)

    def _assert_nothing_tells(self, key, job, act):
        """Act, and find the key nowhere afterwards."""
        sent = []

        def send(_bus, _channel, _type, payload, **_kwargs):
            sent.append(payload)

        queue = self.env["llm.generation.queue"]._get_or_create_queue(job.provider_id)
        queue.sudo()._resume()  # the answer before this one may have paused it
        bus = patch.object(type(self.env["bus.bus"]), "_sendone", send)
        with bus, self.assertLogs(LOGS, logging.INFO) as logs:
            _logger.info("There is a line at least.")
            result = act()
        self.assertNotIn(key, "\n".join(logs.output))
        self.assertNotIn(key, repr(result))
        self.assertNotIn(key, repr(sent))
        self.assertNotIn(key, self._all_that_is_told(job))
        if job.error_message:
            self.assertLessEqual(len(job.error_message), 2000)

    def test_a_service_that_tells_its_key_when_it_takes_a_job(self):
        for key in KEYS[1:]:
            self.native.sudo().api_key = key
            for way, make in ANSWERS.items():
                with self.subTest(key=key, way=way):
                    self.service.answers["create"] = [self._told(make)]
                    job = self._create_job("queued")
                    self._assert_nothing_tells(key, job, self._process_queue)
                    self.assertEqual(self.service.calls["create"][-1], job.id)
                    self._end(job)

    def test_a_service_that_tells_its_key_when_it_is_asked(self):
        for key in KEYS[1:]:
            self.native.sudo().api_key = key
            for way, make in ANSWERS.items():
                with self.subTest(key=key, way=way):
                    self.service.answers["create"] = ["ext-1"]
                    self.service.answers["check"] = [self._told(make)]
                    job = self._create_job("queued")
                    self.queue.sudo()._resume()
                    self._process_queue()
                    self.assertEqual(job.state, "running")
                    self._assert_nothing_tells(key, job, job.with_user(self.user).check_status)
                    self._end(job)

    def test_a_service_that_tells_its_key_when_a_job_is_cancelled(self):
        for key in KEYS[1:]:
            self.native.sudo().api_key = key
            self.service.answers["cancel"] = [self._told(ValueError)]
            job = self._create_job("queued")
            self._process_queue()
            self._assert_nothing_tells(key, job, job.action_cancel)
            self.assertEqual(self.service.calls["cancel"][-1], job.id)

    def test_a_service_that_posts_its_key(self):
        def post(job):
            key = job.provider_id.sudo().api_key
            message = job.thread_id.message_post(
                body=f"It is {key}", body_json={"echo": [key]}, llm_role="assistant"
            )
            return {"state": "completed", "output_message_id": message.id, "key": key}

        for key in KEYS[1:]:
            self.native.sudo().api_key = key
            self.service.answers["check"] = [post]
            job = self._create_job("queued")
            self._process_queue()
            self._assert_nothing_tells(key, job, job.with_user(self.user).check_status)
            self.assertEqual(job.state, "completed")
            self.assertIn("It is [hidden]", job.output_message_id.body)

    def test_a_service_that_streams_its_key(self):
        for key in KEYS[1:]:
            self.direct.sudo().api_key = key
            for way, make in STREAMS.items():
                with self.subTest(key=key, way=way):
                    chunks = make(f"Refused {key} of this account", key)
                    job = self._create_thread(self.direct_model).enqueue_generation("Hi")

                    def process(chunks=chunks):
                        with self._streaming(chunks):
                            return self._process_queue(self.direct)

                    self._assert_nothing_tells(key, job, process)
                    self.assertEqual(job.attempt_ids[:1].number, 1)
                    self._end(job)

    def test_a_service_that_streams_its_key_to_who_waits(self):
        for key in KEYS[1:]:
            self.direct.sudo().api_key = key
            for way, make in STREAMS.items():
                with self.subTest(key=key, way=way):
                    chunks = make(f"Refused {key} of this account", key)
                    thread = self._create_thread(self.direct_model)
                    job = self._create_job(thread_id=thread.id)

                    def ask(thread=thread, chunks=chunks):
                        try:
                            with self._streaming(chunks):
                                return list(thread.generate_response("Hi", use_queue=False))
                        except Exception as error:  # noqa: BLE001 it is looked at
                            return [str(error), *error.args]

                    self._assert_nothing_tells(key, job, ask)

    def _streaming(self, chunks):
        """Have the direct service use its key, as it has to, and then stream."""

        def chat(provider, _messages, **_kwargs):
            self.assertTrue(provider.sudo().api_key)
            for chunk in chunks:
                if isinstance(chunk, BaseException):
                    raise chunk
                yield chunk

        return self._offered(fakedirect_chat=chat)

    @mute_logger("odoo.addons.llm_generate_job.engine.execute")
    def _end(self, job):
        if job.state in {"queued", "running"}:
            self.service.answers["cancel"] = [True]
            job.action_cancel()

    def test_a_key_is_read_by_managers_only(self):
        self.native.sudo().api_key = KEYS[0]
        rows = self.native.with_user(self.user).read()
        self.assertNotIn(KEYS[0], repr(rows))
        job_context = self._engine()._prefetch([self._claim(self._create_job("queued"))])
        self.assertNotIn(KEYS[0], repr(job_context))

    def test_a_user_gets_the_key_by_no_way(self):
        self.native.sudo().api_key = KEYS[0]
        self.env.flush_all()
        providers = self.env["llm.provider"].with_user(self.user)
        native = providers.browse(self.native.id)
        self.assertTrue(native.name)
        own = [("id", "=", native.id)]
        ways = {
            "attribute": lambda: native.api_key,
            "read": lambda: native.read(["api_key"]),
            "web_read": lambda: native.web_read({"api_key": {}}),
            "search": lambda: providers.search([("api_key", "=like", "sk-%")]),
            "search_read": lambda: providers.search_read(own, ["api_key"]),
            "order": lambda: providers.search(own, order="api_key"),
            "group": lambda: providers.formatted_read_group(own, ["api_key"]),
            "aggregate": lambda: providers.formatted_read_group(own, [], ["api_key:array_agg"]),
            "export": lambda: native.export_data(["api_key"]),
            "write": lambda: native.write({"api_key": "mine"}),
        }
        for way, act in ways.items():
            with self.subTest(way=way), self.assertRaises(Exception) as caught:
                act()
            self.assertIsInstance(caught.exception, AccessError | UserError | ValueError)
            self.assertNotIn(KEYS[0], str(caught.exception))
        self.assertNotIn("api_key", providers.fields_get())
        self.assertNotIn("api_key", providers.get_view(view_type="form")["arch"])
        self.assertNotIn(KEYS[0], repr(native.copy_data()))
        self.assertEqual(native.with_user(self.admin).api_key, KEYS[0])

    def test_the_key_is_closed_whatever_llm_says_of_it(self):
        field = vars(llm_provider.LlmProvider)["api_key"]
        self.assertEqual(field._args__["groups"], "llm.group_llm_manager")

    def test_a_service_reads_its_key_for_who_may_use_the_provider(self):
        """Services that know nothing of us read the field, where every user may."""
        self.direct.sudo().api_key = KEYS[0]
        provider = self.direct.with_user(self.user)

        def get_client(service):
            return service.api_key

        service_class = llm_provider.LlmProvider
        with patch.object(service_class, "fakedirect_get_client", get_client, create=True):
            with self.assertRaises(AccessError):
                provider._dispatch("get_client")
            provider._register_hook()
            self.assertEqual(provider._dispatch("get_client"), KEYS[0])
            with self.assertRaises(AccessError):
                provider.api_key  # noqa: B018 reading is the test
            portal = new_test_user(self.env, "no_user_of_it", "base.group_portal")
            self.env.invalidate_all()
            with self.assertRaises(AccessError):
                provider.with_user(portal)._dispatch("get_client")

    def test_what_the_server_says_of_itself_has_no_key(self):
        self.native.sudo().api_key = KEYS[0]
        self.env.flush_all()
        with self.assertLogs(LOGS, logging.INFO) as logs:
            job = self._create_job("queued")
            token = job.webhook_token
            self._process_queue()
            job.action_cancel()
        for secret in (KEYS[0], token):
            self.assertNotIn(secret, "\n".join(logs.output))
