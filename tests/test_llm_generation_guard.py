from odoo.exceptions import AccessError
from odoo.service.model import call_kw

from ..models.llm_generation_job import MANAGER_FIELDS
from .common import LlmGenerationCommon
from .rights import has_table

#: what an attacker would like to have in a field, by its type
FORGED = {
    "boolean": False,
    "char": "forged",
    "datetime": "2026-01-01 00:00:00",
    "float": 1.0,
    "integer": 1,
    "json": {"forged": True},
    "many2one": 1,
    "one2many": [(0, 0, {})],
    "text": "forged",
}
FORGED_CHOICES = {"state": "completed", "error_type": "internal", "finish_reason": "stop"}
#: columns that every table has
MAGIC = {"id", "create_uid", "create_date", "write_uid", "write_date"}


class TestLlmGenerationGuard(LlmGenerationCommon):
    """Each call goes the way of an RPC: no superuser, no private method."""

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.owner_fields = cls.env["llm.generation.job"]._owner_fields()
        cls.forged = {
            name: FORGED_CHOICES.get(name, FORGED.get(field.type))
            for name, field in cls.env["llm.generation.job"]._fields.items()
            if (field.store or field.type == "one2many")
            and name not in cls.owner_fields | MANAGER_FIELDS | MAGIC
        }

    def _rpc(self, user, records, method, *args, **kwargs):
        model = self.env["llm.generation.job"].with_user(user)
        return call_kw(model, method, [records.ids, *args], kwargs)

    def _rpc_create(self, user, values, **context):
        model = self.env["llm.generation.job"].with_user(user)
        return model.browse(call_kw(model, "create", [values], {"context": context}))

    def test_the_engine_owns_what_must_not_be_written_by_hand(self):
        self.assertLessEqual(
            {
                "state",
                "queued_at",
                "started_at",
                "completed_at",
                "duration",
                "user_id",
                "company_id",
                "external_job_id",
                "output_message_id",
                "attempt_token",
                "attempt_ids",
                "retry_count",
                "prompt_tokens",
                "completion_tokens",
            },
            self.forged.keys(),
        )
        self.assertNotIn(None, self.forged.values())

    def test_what_the_engine_owns_is_written_by_nobody_else(self):
        admin = self.env.ref("base.user_admin")
        for user, state in (
            (self.user, "draft"),
            (self.user, "running"),
            (self.manager, "draft"),
            (self.manager, "queued"),
            (admin, "failed"),
        ):
            job = self._create_job(state, user=user)
            before = self._values(job)
            for name, value in self.forged.items():
                with self.subTest(user=user.login, state=state, field=name):
                    self._refusal(self._rpc, user, job, "write", {name: value}, error=AccessError)
            self.assertEqual(self._values(job), before)

    def test_what_the_engine_owns_is_created_by_nobody_else(self):
        for user in (self.user, self.manager):
            thread = self._create_thread(user=user)
            for name, value in self.forged.items():
                with self.subTest(user=user.login, field=name):
                    values = {"thread_id": thread.id, name: value}
                    self._refusal(self._rpc_create, user, values, error=AccessError)
            self.assertFalse(thread.generation_job_ids)

    def test_what_the_engine_owns_does_not_come_in_by_the_context(self):
        thread = self._create_thread()
        forged = {f"default_{name}": value for name, value in self.forged.items()}
        job = self._rpc_create(
            self.user, {"thread_id": thread.id}, default_priority=13, **forged
        ).sudo()
        self.assertRecordValues(
            job,
            [
                {
                    "state": "draft",
                    "user_id": self.user.id,
                    "external_job_id": False,
                    "completed_at": False,
                    "error_message": False,
                    "attempt_token": 0,
                    "priority": 13,
                }
            ],
        )

    def test_what_the_engine_owns_does_not_come_in_by_the_thread(self):
        thread = self._create_thread()
        job = self._create_job("queued", thread_id=thread.id)
        for command in ([1, job.id, {"state": "completed"}], [0, 0, {"state": "completed"}]):
            with self.subTest(command=command):
                values = {"generation_job_ids": [command]}
                self._refusal(thread.with_user(self.user).write, values, error=AccessError)
        self.assertEqual(thread.generation_job_ids, job)
        self.assertEqual(job.state, "queued")

    def test_the_owner_prepares_a_draft(self):
        thread = self._create_thread()
        job = self._rpc_create(self.user, {"thread_id": thread.id})
        values = {"generation_inputs": {"prompt": "Hi"}, "priority": 15, "identity_key": "k"}
        self._rpc(self.user, job, "write", values)
        self._rpc(self.user, job, "action_queue")
        self.assertEqual((job.state, job.priority, job.user_id), ("queued", 15, self.user))

    def test_the_owner_changes_nothing_once_it_is_queued(self):
        for state in ("queued", "running", "failed", "completed", "cancelled"):
            job = self._create_job(state)
            for name in self.owner_fields:
                with self.subTest(state=state, field=name):
                    values = {name: job[name].id if "_id" in name else job[name]}
                    self._refusal(self._rpc, self.user, job, "write", values, error=AccessError)

    def test_a_manager_reorders_what_waits(self):
        for state in ("draft", "queued", "failed"):
            job = self._create_job(state)
            values = {"priority": 1, "max_retries": 9, "scheduled_at": False}
            self._rpc(self.manager, job, "write", values)
            self.assertEqual((job.priority, job.max_retries), (1, 9))
        for state in ("running", "completed", "cancelled"):
            job = self._create_job(state)
            self._refusal(self._rpc, self.manager, job, "write", values, error=AccessError)

    def test_nobody_creates_a_job_in_anothers_name(self):
        thread = self._create_thread()
        values = {"thread_id": thread.id, "user_id": self.user.id}
        self._refusal(self._rpc_create, self.manager, values, error=AccessError)
        self.assertFalse(thread.generation_job_ids)

    def test_nobody_creates_a_job_on_a_thread_they_cannot_read(self):
        thread = self._create_thread(user=self.manager)
        self._refusal(self._rpc_create, self.user, {"thread_id": thread.id}, error=AccessError)

    def test_nobody_moves_a_job_to_a_thread_they_cannot_read(self):
        foreign = self._create_thread(user=self.manager)
        job = self._create_job()
        with self.assertRaises(AccessError):
            self._rpc(self.user, job, "write", {"thread_id": foreign.id})

    def test_nobody_uses_a_provider_of_another_company(self):
        self._needs(has_table("llm"), "with rules of companies")
        company = self.env["res.company"].create({"name": "Elsewhere"})
        foreign, foreign_model = self._create_provider("Foreign", "fakenative")
        foreign.company_id = company
        thread = self._create_thread()
        values = {
            "thread_id": thread.id,
            "provider_id": foreign.id,
            "model_id": foreign_model.id,
        }
        with self.assertRaises(AccessError):
            self._rpc_create(self.user, values)
        # The rule of jobs refuses that, too; once there is a job, it is of its old company.
        draft = self._create_job("draft", thread_id=thread.id)
        with self.assertRaises(AccessError):
            self._rpc(self.user, draft, "write", values)
        self.assertEqual(draft.provider_id, self.native)

    def test_a_model_belongs_to_its_provider(self):
        thread = self._create_thread()
        values = {"thread_id": thread.id, "model_id": self.direct_model.id}
        with self.assertRaisesRegex(Exception, "does not belong to the provider"):
            self._rpc_create(self.user, values)

    def test_a_question_is_taken_from_the_own_thread_only(self):
        foreign = self._create_thread(user=self.manager)
        secret = foreign.message_post(body="Secret", llm_role="user")
        thread = self._create_thread()
        values = {"thread_id": thread.id, "input_message_id": secret.id}
        with self.assertRaises(AccessError):
            self._rpc_create(self.user, values)
        job = self._rpc_create(self.user, {"thread_id": thread.id})
        with self.assertRaises(AccessError):
            self._rpc(self.user, job, "write", {"input_message_id": secret.id})
