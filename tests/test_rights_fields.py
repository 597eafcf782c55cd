from unittest.mock import patch

from odoo import modules
from odoo.exceptions import AccessError, UserError
from odoo.fields import NO_ACCESS
from odoo.service.model import call_kw
from odoo.tools import mute_logger

from ..models.llm_generation_job import MANAGER_FIELDS
from ..models.llm_generation_queue import ENGINE_FIELDS
from ..runner.executor import CallRecorder, received
from .common import LlmGenerationCommon
from .test_llm_generation_guard import FORGED, FORGED_CHOICES, MAGIC

#: What a remote caller may put into its context, hoping that the engine takes it for its own.
HOSTILE_CONTEXT = {
    "cron_id": 1,
    "generation_call": {"pause": 1},
    "generation_earlier_job": "ext-of-another",
    "generation_complete": "finish",
    "generation_inline": True,
    "generation_lent": True,
    "generation_outbox": [],
    "generation_recorder": 1,
    "llm_on_response": "close",
}


class TestRightsFields(LlmGenerationCommon):
    """By whichever way a remote call comes, what the engine owns stays the engine's."""

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        owner_fields = cls.env["llm.generation.job"]._owner_fields()
        cls.owned = {
            name: FORGED_CHOICES.get(name, FORGED.get(field.type))
            for name, field in cls.env["llm.generation.job"]._fields.items()
            if (field.store or field.type == "one2many")
            and name not in owner_fields | MANAGER_FIELDS | MAGIC
        }
        cls.callers = cls.user | cls.manager | cls.env.ref("base.user_admin")

    def _rpc(self, user, records, method, *args, **kwargs):
        """Call as a remote caller does; return what it says, or the refusal, undone."""
        model = self.env(user=user.id, context={})[records._name]
        method_args = args if method in {"create", "load"} else (records.ids, *args)
        with mute_logger("odoo.models", "odoo.orm.models"):
            try:
                with self.env.cr.savepoint():
                    result = call_kw(model, method, list(method_args), kwargs)
                    self.env.flush_all()
            except (AccessError, UserError) as refusal:
                result = refusal
        self.env.invalidate_all(flush=False)
        return result

    def _is_as_made(self, jobs):
        """Whether jobs are drafts as their maker may make them."""
        return all(
            (job.state, bool(job.completed_at), job.external_job_id, job.attempt_token)
            == ("draft", False, False, 0)
            and job.user_id in self.callers
            and not (job.error_message or job.output_message_id or job.provider_data)
            and "forged" not in repr(job.sudo().read())
            for job in jobs
        )

    def test_not_by_the_form(self):
        for user in self.callers:
            job = self._create_job("queued", user=user)
            before = self._values(job)
            for name, value in self.owned.items():
                with self.subTest(user=user.login, field=name):
                    refused = self._rpc(user, job, "web_save", {name: value}, specification={})
                    self.assertIsInstance(refused, AccessError)
            self.assertEqual(self._values(job), before)

    def test_not_by_a_new_form(self):
        none = self.env["llm.generation.job"]
        for user in self.callers:
            thread = self._create_thread(user=user)
            for name, value in self.owned.items():
                values = {"thread_id": thread.id, name: value}
                refused = self._rpc(user, none, "web_save", values, specification={})
                with self.subTest(user=user.login, field=name):
                    self.assertIsInstance(refused, AccessError)
            self.assertFalse(thread.generation_job_ids)

    def test_not_by_an_import(self):
        none = self.env["llm.generation.job"]
        for user in self.callers:
            job = self._create_job("queued", user=user)
            before = self._values(job)
            for name, value in self.owned.items():
                if isinstance(value, list | dict):
                    continue  # a table has none
                column = f"{name}/.id" if none._fields[name].type == "many2one" else name
                for head, row in (
                    (["thread_id/.id", column], [str(job.thread_id.id), str(value)]),
                    ([".id", column], [str(job.id), str(value)]),
                ):
                    with self.subTest(user=user.login, field=name, head=head[0]):
                        result = self._rpc(user, none, "load", head, [row])
                        refused = isinstance(result, Exception) or not result["ids"]
                        self.assertTrue(refused, result)
            self.assertEqual(self._values(job), before)
            self.assertEqual(job.thread_id.generation_job_ids, job)

    def test_not_by_an_import_with_defaults(self):
        thread = self._create_thread()
        context = {f"default_{name}": value for name, value in self.owned.items()}
        model = self.env["llm.generation.job"].with_user(self.user)
        head, row = ["thread_id/.id"], [str(thread.id)]
        result = call_kw(model, "load", [head, [row]], {"context": context})
        self.assertTrue(result["ids"], result)
        self.assertTrue(self._is_as_made(self.env["llm.generation.job"].browse(result["ids"])))

    def test_not_by_a_copy(self):
        for state in ("draft", "running", "completed", "failed"):
            for owner in (self.user, self.manager):
                job = self._create_job(state, user=owner)
                made = job.thread_id.generation_job_ids
                for name, value in {**self.owned, "priority": 1}.items():
                    self._rpc(self.manager, job, "copy", {name: value})
                    new = job.thread_id.generation_job_ids - made
                    with self.subTest(state=state, owner=owner.login, field=name):
                        self.assertTrue(self._is_as_made(new))
                        self.assertLessEqual(new.user_id, self.manager)
                    made |= new

    def test_not_by_the_records_around_it(self):
        job = self._create_job("queued")
        before = self._values(job)
        forged = {"state": "completed"}
        born = {"thread_id": job.thread_id.id, "model_id": self.native_model.id, **forged}
        born["provider_id"] = self.native.id
        thread_values = {"provider_id": self.native.id, "model_id": self.native_model.id}
        attempt = self._create_job("running").attempt_ids
        ways = [
            (job.thread_id, "write", {"generation_job_ids": [[1, job.id, forged]]}),
            (job.thread_id, "write", {"generation_job_ids": [[0, 0, forged]]}),
            (job.thread_id, "web_save", {"generation_job_ids": [[1, job.id, forged]]}),
            (job.thread_id, "create", {**thread_values, "generation_job_ids": [[0, 0, forged]]}),
            (job.thread_id, "write", {"generation_job_ids": [[2, job.id, 0]]}),
            (job, "write", {"attempt_ids": [[0, 0, {"outcome": "completed"}]]}),
            (attempt.job_id, "write", {"attempt_ids": [[1, attempt.id, {"outcome": "failed"}]]}),
            (self.queue, "write", {"recent_job_ids": [[1, job.id, forged]]}),
            (self.queue, "write", {"recent_job_ids": [[0, 0, born]]}),
        ]
        for records, method, values in ways:
            for user in self.callers:
                if user == self.manager and [2, job.id, 0] in values.get("generation_job_ids", ()):
                    continue  # who may delete a job may do it this way, too
                with self.subTest(records=records, method=method, values=values, user=user.login):
                    extra = {"specification": {}} if method == "web_save" else {}
                    count = self.env["llm.generation.job"].search_count([])
                    self._rpc(user, records, method, values, **extra)
                    if job.exists():
                        self.assertEqual(self._values(job), before)
                    self.assertLessEqual(self.env["llm.generation.job"].search_count([]), count)
                    self.assertEqual(attempt.outcome, "running")

    def test_a_queue_is_not_moved_and_its_pauses_are_not_forged(self):
        company = self.env["res.company"].create({"name": "Elsewhere"})
        forged = {
            "company_id": company.id,
            "paused_until": "2030-01-01 00:00:00",
            "provider_id": self.direct.id,
            "refused_by": "quota",
            "stopped_since": "2030-01-01 00:00:00",
            "stopped_words": "Nothing.",
        }
        self.assertEqual(forged.keys(), ENGINE_FIELDS | {"provider_id"})
        before = self._values(self.queue)
        for name, value in forged.items():
            for method, extra in (("write", {}), ("web_save", {"specification": {}})):
                with self.subTest(field=name, method=method):
                    result = self._rpc(self.manager, self.queue, method, {name: value}, **extra)
                    self.assertIsInstance(result, AccessError)
        self.assertEqual(self._values(self.queue), before)
        provider = self._create_provider("New", "fakenative")[0]
        self.env.cr.execute(
            "DELETE FROM llm_generation_queue WHERE provider_id = %s", [provider.id]
        )
        for name in ENGINE_FIELDS:
            given = {"provider_id": provider.id, name: forged[name]}
            with self.subTest(field=name, method="create"):
                self.assertIsInstance(
                    self._rpc(self.manager, self.queue, "create", given), AccessError
                )
                context = {f"default_{name}": forged[name]}
                result = self._rpc(
                    self.manager,
                    self.queue,
                    "create",
                    {"provider_id": provider.id},
                    context=context,
                )
                self.assertIsInstance(result, AccessError)

    # === WHAT IS HIDDEN IS NOT FOUND OUT EITHER === #

    def test_hidden_values_are_neither_read_nor_searched_nor_grouped(self):
        self._create_job("queued")
        jobs = self.env["llm.generation.job"]
        hidden = [name for name, field in jobs._fields.items() if field.groups]
        self.assertIn("webhook_token", hidden)
        paths = [*hidden, "provider_id.api_key", "model_id.provider_id.api_key"]
        for name in paths:
            for method, args, kwargs in (
                ("search", [[(name, "!=", False)]], {}),
                ("search_count", [[(name, "=like", "a%")]], {}),
                ("search", [[]], {"order": name}),
                ("formatted_read_group", [[], [name], ["__count"]], {}),
                ("search_read", [[], [name]], {}),
            ):
                with self.subTest(path=name, method=method), self.assertRaises(Exception) as caught:
                    model = jobs.with_user(self.user)
                    self.env.invalidate_all()
                    with self.env.cr.savepoint():
                        call_kw(model, method, list(args), kwargs)
                # A path through a relation is no order and no group, whoever asks.
                self.assertIsInstance(caught.exception, AccessError | ValueError | UserError)

    def test_the_token_of_a_webhook_is_read_by_nobody(self):
        job = self._create_job("queued")
        self.assertEqual(job._fields["webhook_token"].groups, NO_ACCESS)
        for user in self.callers:
            with self.subTest(user=user.login):
                refused = self._rpc(user, job, "read", ["webhook_token"])
                self.assertIsInstance(refused, AccessError)
                rows = self._rpc(user, job, "read")
                self.assertNotIn(job.webhook_token, repr(rows))

    # === CONTEXT === #

    def test_nobody_chooses_the_engines_ways_by_the_context(self):
        engine = self._engine()
        self.assertTrue(engine._is_inline())
        with patch.object(modules.module, "current_test", None):
            self.assertFalse(engine.with_context(generation_inline=True)._is_inline())

    def test_what_came_by_a_remote_call_is_no_recorder(self):
        for forged in (1, True, 0.5, "x", {"limit": 1}, [1], None):
            with self.subTest(forged=forged):
                env = self.env(context={"generation_recorder": forged})
                self.assertIsNone(received(env, "generation_recorder"))
        recorder = CallRecorder()
        env = self.env(context={"generation_recorder": recorder})
        self.assertIs(received(env, "generation_recorder"), recorder)

    def test_a_hostile_context_changes_nothing(self):
        context = {**HOSTILE_CONTEXT}
        for state, method in (
            ("draft", "action_queue"),
            ("queued", "action_start"),
            ("queued", "action_cancel"),
            ("failed", "action_retry"),
        ):
            job = self._create_job(state)
            with self.subTest(method=method):
                model = self.env["llm.generation.job"].with_user(self.user)
                self.assertTrue(call_kw(model, method, [job.ids], {"context": dict(context)}))
        job = self._create_job("queued")
        self._process_queue()
        self.service.answers["check"] = [{"state": "running", "progress": 40}]
        model = self.env["llm.generation.job"].with_user(self.user)
        answer = call_kw(model, "check_status", [job.ids], {"context": dict(context)})
        self.assertEqual((answer["progress"], job.progress), (40, 40.0))
        self.assertFalse(self.env.cr.closed)
