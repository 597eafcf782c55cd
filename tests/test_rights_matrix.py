from unittest.mock import MagicMock

from odoo import SUPERUSER_ID, fields
from odoo.http import _request_stack
from odoo.tests import HttpCase, tagged

from ..models.llm_provider import FOR_CODE
from .common import LlmGenerationCommon
from .rights import RightsMatrix, RightsRoutes, is_reachable


class TestRightsMatrix(RightsMatrix, LlmGenerationCommon):
    addon = "llm_generate_job"

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.thread = cls._create_thread()

    def setUp(self):
        super().setUp()
        self.service.answers["check"] = [{"state": "running"}]
        listed = [{"name": "listed", "details": {}}]
        self.enterContext(self._offered(fakenative_models=lambda *_args, **_how: listed))

    def _rpc(self, role, model, method, *args):
        if model != "ir.http":
            return super()._rpc(role, model, method, *args)
        # It looks at the request that asks for it.
        request = MagicMock(env=self.env(user=self.uids[role]), cookies={})
        request.session.uid = self.uids[role]
        _request_stack.push(request)
        try:
            return super()._rpc(role, model, method, *args)
        finally:
            _request_stack.pop()

    # === RECORDS === #

    def _sample(self, name):  # noqa: C901 a line for each model
        """Return a record of the owner's, values to create one, and values to write."""
        limit = {"queue_id": self.queue.id, "model_id": self.native_model.id}
        match name:
            case "llm.generation.job":
                job = self._create_job(thread_id=self.thread.id)
                return job, {"thread_id": self.thread.id}, {"priority": 13}
            case "llm.generation.attempt":
                attempt = self._create_job("running").attempt_ids
                return attempt, {"job_id": attempt.job_id.id}, {"outcome": "completed"}
            case "llm.generation.report":
                job = self._create_job("completed", thread_id=self.thread.id)
                return self.env[name].browse(job.id), {"job_id": job.id}, {"state": "failed"}
            case "llm.generation.queue":
                provider, _model = self._create_provider("Queueless", "fakenative")
                self.env.cr.execute(
                    "DELETE FROM llm_generation_queue WHERE provider_id = %s", [provider.id]
                )
                return self.queue, {"provider_id": provider.id}, {"max_concurrent_jobs": 9}
            case "llm.generation.model.limit":
                record = self.env[name].create(limit | {"model_id": self._second_model().id})
                return record, limit, {"max_concurrent_jobs": 2}
            case "llm.generation.runner":
                now = {"started_at": "2026-01-01 00:00:00", "heartbeat_at": "2026-01-01 00:00:00"}
                return (
                    self.env[name].create({"name": "r", **now}),
                    {"name": "s", **now},
                    {"slots": 1},
                )
            case "llm.generation.bucket":
                bucket = self.env[name].search([("queue_id", "=", self.direct_queue.id)])
                bucket.unlink()
                bucket = self.env[name].create({"queue_id": self.direct_queue.id})
                self.env[name].search([("queue_id", "=", self.queue.id)]).unlink()
                return bucket, {"queue_id": self.queue.id}, {"token_level": 9.0}
            case "llm.generation.model.pause":
                pause = limit | {"paused_until": "2026-01-01 00:00:00"}
                other = pause | {"model_id": self._second_model().id}
                return self.env[name].create(pause), other, {"refused_by": "quota"}
            case "llm.generation.held.slot":
                values = {"provider_id": self.native.id, "until": "2026-01-01 00:00:00"}
                return (
                    self.env[name].create({"token": 1, **values}),
                    {"token": 2, **values},
                    {"token": 3},
                )
            case "llm.generation.prioritize":
                record = self.env[name].with_user(self.manager).create({})
                return record, {"priority": 1}, {"priority": 2}
            case "llm.generation.move":
                values = {"provider_id": self.native.id, "model_id": self.native_model.id}
                record = self.env[name].with_user(self.manager).create(values)
                return record, values, {"model_id": self.native_model.id}
            case "llm.thread":
                model = self.native_model
                values = {"user_id": self.user.id, "provider_id": self.native.id, "name": "T"}
                return self._create_thread(), values | {"model_id": model.id}, {"name": "Mine"}
            case "llm.provider":
                provider = self.env[name].create({"name": "P", "service": "fakenative"})
                values = {"name": "Q", "service": "fakenative", "company_id": self.env.company.id}
                return provider, values, {"name": "R"}
            case "res.config.settings":
                return self.env[name].create({}), {}, {"llm_generation_job_timeout": 3}
            case "res.users":
                notify = {"llm_generation_notify": False}
                return self.user, {"name": "U", "login": "matrix_new", **notify}, notify
            case "mail.message":
                message = self.thread.message_post(body="Hello", llm_role="user")
                about = {"model": "llm.thread", "res_id": self.thread.id, "body": "Hello"}
                return message, about, {"body": "Changed"}
            case "ir.attachment":
                about = {"name": "A", "res_model": "llm.thread", "res_id": self.thread.id}
                return self.env[name].create(about), about, {"name": "B"}
        raise KeyError(name)

    def _second_model(self):
        return self.native_model.copy({"name": "Second"})

    def _records_with_mail(self):
        return self.thread, self.queue

    def test_nobody_logs_in_as_the_superuser(self):
        root = self.env["res.users"].browse(SUPERUSER_ID)
        self.assertFalse(root.active)
        self.assertFalse(self.env["res.users"].search([("id", "=", SUPERUSER_ID)]))

    # === METHODS === #

    def _call_of(self, method):
        """Return the record and the arguments that a method is tried with."""
        model, _dot, name = method.rpartition(".")
        states = {
            "action_queue": "draft",
            "check_status": "running",
            "action_start": "queued",
            "action_retry": "failed",
            "action_stop_retrying": "failed",
            "action_bulk_retry": "failed",
            "action_retry_last_failed_generation": "failed",
            "action_open_job": "completed",
        }
        job = self._create_job(states.get(name, "queued"))
        if name == "action_stop_retrying":
            job.retry_at = fields.Datetime.now()
        records = {
            "llm.generation.job": job,
            "llm.generation.report": self.env["llm.generation.report"].browse(job.id),
            "llm.generation.queue": self.queue,
            "llm.thread": job.thread_id,
            "llm.provider": self.native,
        }
        if model == "llm.generation.prioritize":
            return self.env[model].with_user(self.manager).create({}), ()
        if model == "llm.generation.move":
            values = {"provider_id": self.native.id, "model_id": self.native_model.id}
            return self.env[model].with_user(self.manager).create(values), ()
        if model == "res.config.settings":
            return self.env[model].create({}), ()
        if model == "ir.http":
            return self.env[model], ()
        arguments = {
            "apply_bulk": ("cancel",),
            "ask_in_queue": ("Hi",),
            "get_views": ([[False, "list"]],),
            "press_dashboard_button": ("pause",),
            "press_incident_button": ("retry", "transient", "2026-01-01 00:00:00"),
        }
        return records[model], arguments.get(name, ())

    def test_no_method_of_a_service_is_called_from_outside(self):
        """Also those of the family's providers, which say nothing of it themselves."""
        provider = self.env["llm.provider"]
        names = [name for name in dir(type(provider)) if name.startswith(("openai_", "fal_ai_"))]
        self.assertTrue(names)
        with self._offered(fakedirect_generate=lambda _provider, *args: args):
            provider._register_hook()
            names += ["fakedirect_chat", "fakedirect_generate", "fakenative_cancel_generation_job"]
            for name in names:
                with self.subTest(method=name):
                    self.assertFalse(is_reachable(provider, name))

    def test_what_the_family_brings_for_code_is_not_called_from_outside(self):
        doubles = {
            "llm.provider": "upload_file",
            "llm.model": "embedding",
            "llm.tool": "matrix_execute",
            "mail.message": "execute_tool_call",
        }
        for model, name in doubles.items():
            offered = self._offered(model, **{name: lambda _records, *args: args})
            with self.subTest(method=f"{model}.{name}"), offered:
                self.env["llm.provider"]._register_hook()
                self.assertFalse(is_reachable(self.env[model], name))
        for model, names in FOR_CODE.items():
            for name in names:
                with self.subTest(method=f"{model}.{name}"):
                    self.assertFalse(is_reachable(self.env[model], name))


@tagged("post_install", "-at_install")
class TestRightsRoutes(RightsRoutes, LlmGenerationCommon, HttpCase):
    addon = "llm_generate_job"

    def _request_of(self, route):
        job = self._create_job("completed", model=self.direct_model)
        if route.endswith("/generate"):
            return route, {"thread_id": job.thread_id.id, "message": "Hi", "use_queue": "0"}
        if route.endswith("/follow"):
            return f"{route}?job_id={job.id}", None
        return f"/llm_generate_job/webhook/{job.id}/of-somebody-else", {"id": 1}
