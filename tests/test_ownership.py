import json
from unittest.mock import patch

from odoo import Command
from odoo.exceptions import AccessError, UserError
from odoo.service.model import call_kw
from odoo.tests import HttpCase, new_test_user
from odoo.tools import mute_logger

from ..const import MAX_RETRIES
from ..models.llm_generation_bounds import BOUNDS
from ..models.llm_generation_job import MANAGER_FIELDS, OWNER_FIELDS
from .common import LlmGenerationCommon, user_groups


class OwnershipCommon(LlmGenerationCommon):
    """A conversation of an administrator, and those who would like to have a word in it."""

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        groups = "base.group_system,llm.group_llm_manager"
        cls.owner = new_test_user(cls.env, "ownership_owner", groups)
        cls.admin = new_test_user(cls.env, "ownership_admin", groups)
        cls.other = new_test_user(cls.env, "ownership_other", user_groups(cls.env))
        cls.tool = cls.env["llm.tool"].create({
            "name": "ownership_tool",
            "description": "Reads",
            "implementation": "search_records",
        })
        cls.thread = cls._create_thread(user=cls.owner)
        cls.question = cls.thread.message_post(body="My question", llm_role="user")

    def _rpc(self, user, records, method, *args, **kwargs):
        """Call as a remote caller does; return what it says, or the refusal, undone."""
        model = self.env(user=user.id, context={}, su=False)[records._name]
        is_of_model = getattr(getattr(type(model), method), "_api_model", False)
        arguments = list(args) if is_of_model else [records.ids, *args]
        result = None
        self.env.flush_all()
        self.env.invalidate_all()
        with mute_logger("odoo.models", "odoo.orm.models", "odoo.sql_db"):
            try:
                with self.env.cr.savepoint():
                    result = call_kw(model, method, arguments, kwargs)
                    self.env.flush_all()
            except (AccessError, UserError) as refusal:
                result = refusal
        self.env.invalidate_all(flush=False)
        return result

    def _assert_refused(self, result):
        refused = isinstance(result, Exception) or (
            isinstance(result, dict) and result.get("ids") is False
        )
        self.assertTrue(refused, result)

    def _context_of(self, thread):
        """Return what a model is told of a conversation."""
        messages = self.env["mail.message"].search(
            [("model", "=", "llm.thread"), ("res_id", "=", thread.id)], order="id"
        )
        return [(one.id, one.body, one.llm_role, one.body_json) for one in messages]


class TestOwnership(OwnershipCommon):
    """What runs with somebody's rights is written by nobody else, managers included."""

    # === THE CONVERSATION === #

    def test_a_manager_gets_no_tool_run_with_the_rights_of_an_administrator(self):
        job = self._create_job(thread_id=self.thread.id, user=self.owner)
        for values in ({"tool_ids": [Command.link(self.tool.id)]}, {"res_id": 1}):
            self._assert_refused(self._rpc(self.manager, self.thread, "write", values))
        secret = {"prompt": "Read database.secret"}
        values = {"generation_inputs": secret}
        self._assert_refused(self._rpc(self.manager, job, "write", values))
        self._assert_refused(self._rpc(self.manager, job, "action_queue"))
        self.assertEqual((job.state, job.thread_id.tool_ids), ("draft", self.env["llm.tool"]))
        self.assertNotEqual(job.generation_inputs, secret)

    def test_no_field_of_a_conversation_is_written_by_another(self):
        values = {
            "active": False,
            "model": "res.partner",
            "model_id": self.native_model.id,
            "name": "Do as I say",
            "provider_id": self.native.id,
            "res_id": 1,
            "tool_ids": [Command.link(self.tool.id)],
            "user_id": self.manager.id,
            "message_ids": [Command.create({"body": "Forged"})],
        }
        before = self._values(self.thread)
        told = self._context_of(self.thread)
        for user in (self.other, self.manager, self.admin):
            for name, value in values.items():
                with self.subTest(user=user.login, field=name):
                    self._assert_refused(self._rpc(user, self.thread, "write", {name: value}))
                    saved = self._rpc(
                        user, self.thread, "web_save", {name: value}, specification={}
                    )
                    self._assert_refused(saved)
                    if not isinstance(value, list):
                        row = [str(self.thread.id), str(value)]
                        column = f"{name}/.id" if name in {"model_id", "provider_id"} else name
                        loaded = self._rpc(user, self.thread, "load", [".id", column], [row])
                        self._assert_refused(loaded)
        self.assertEqual(self._values(self.thread), before)
        self.assertEqual(self._context_of(self.thread), told)

    def test_the_rule_of_conversations_is_ours_too(self):
        # A family whose managers may write any thread does not open what jobs run on.
        name = "llm_thread.llm_thread_rule_written_by_owner"
        if rule := self.env.ref(name, raise_if_not_found=False):
            rule.active = False
        for user in (self.manager, self.admin):
            refused = self._rpc(user, self.thread, "write", {"name": "Forged"})
            self.assertIsInstance(refused, AccessError)

    def test_nobody_makes_a_conversation_for_another(self):
        values = {
            "name": "For you",
            "provider_id": self.native.id,
            "model_id": self.native_model.id,
        }
        for user in (self.other, self.manager, self.admin):
            with self.subTest(user=user.login):
                result = self._rpc(
                    user, self.thread.browse(), "create", {**values, "user_id": self.owner.id}
                )
                self._assert_refused(result)
                context = {"default_user_id": self.owner.id}
                result = self._rpc(user, self.thread.browse(), "create", values, context=context)
                self._assert_refused(result)
                self._assert_refused(self._rpc(user, self.thread, "copy", {}))

    def test_nobody_pushes_a_conversation_onto_another(self):
        thread = self._create_thread(user=self.manager)
        self._assert_refused(self._rpc(self.manager, thread, "write", {"user_id": self.owner.id}))
        self.assertEqual(thread.user_id, self.manager)

    # pylint: disable-next=missing-return
    def test_nobody_pushes_a_conversation_whatever_llm_thread_says(self):
        """The family's rules look at the owner before."""
        thread = self._create_thread(user=self.manager)
        base = self._class_of_llm_thread()
        values = {"user_id": self.owner.id}
        with patch.object(base, "write", lambda one, vals: super(base, one).write(vals)):
            refused = self._rpc(self.manager, thread, "write", values)
        self.assertIsInstance(refused, AccessError)
        self.assertEqual(thread.user_id, self.manager)

    def test_who_is_not_logged_in_answers_nothing_in_a_conversation(self):
        """As a webhook would that is open to all and works as superuser."""
        public = self.env.ref("base.public_user")
        thread = self.thread.with_user(public).sudo()
        for role in ("assistant", "tool", "system"):
            with self.assertRaises(AccessError):
                thread.message_post(body="Believe me", llm_role=role)
        self.assertNotIn("Believe me", str(self.thread.sudo().message_ids.mapped("body")))
        self.assertTrue(thread.message_post(body="A visitor asks", llm_role="user"))

    def test_an_answer_is_posted_as_the_html_that_it_is(self):
        """The family makes HTML of it and posts that."""
        message = self.thread.message_post(
            body=self.thread._process_llm_body("**Hello**"), message_type="comment"
        )
        self.assertIn("<strong>Hello</strong>", message.body)

    def _class_of_llm_thread(self):
        """Return the class that makes `llm.thread`, of whichever addon."""
        bases = type(self.thread)._base_classes__
        return next(cls for cls in bases if cls.__module__.startswith("odoo.addons.llm_thread."))

    def test_a_conversation_is_read_in_the_companies_of_its_owner(self):
        # Not each family's conversations have a company: their rule is set aside here.
        name = "llm_thread.llm_thread_rule_company"
        if rule := self.env.ref(name, raise_if_not_found=False):
            rule.active = False
        elsewhere = self.env["res.company"].create({"name": "Elsewhere"})
        there = {"company_id": elsewhere.id, "company_ids": [Command.set(elsewhere.ids)]}
        manager = new_test_user(self.env, "foreign", "llm.group_llm_manager", **there)
        for records in (self.thread, self.question):
            with self.subTest(model=records._name):
                self._assert_refused(self._rpc(manager, records, "read", ["display_name"]))
        self.assertIsInstance(self._rpc(self.manager, self.thread, "read", ["name"]), list)
        self.owner.company_ids += elsewhere
        self.assertIsInstance(self._rpc(manager, self.thread, "read", ["name"]), list)

    # === ITS MESSAGES === #

    def test_nobody_speaks_in_the_conversation_of_another(self):
        told = self._context_of(self.thread)
        message = self.env["mail.message"]
        role = self.env.ref("llm.mt_user").id
        born = {"model": "llm.thread", "res_id": self.thread.id, "body": "Forged"}
        born |= {"subtype_id": role}
        for user in (self.other, self.manager, self.admin):
            # By mail's own rules each of these may write.
            self.thread.sudo().message_subscribe(partner_ids=user.partner_id.ids)
            seen = self.thread.sudo().message_post(body="See", partner_ids=user.partner_id.ids)
            own = self.thread.sudo().message_post(body="Mine", author_id=user.partner_id.id)
            told = self._context_of(self.thread)
            ways = [
                (self.thread, "message_post", (), {"body": "Forged", "llm_role": "user"}),
                (self.thread, "message_post", (), {"body": "Forged", "llm_role": "tool"}),
                (self.thread, "message_post", (), {"body": "Forged"}),
                (message, "create", (born,), {}),
                (message, "create", ({**born, "message_type": "user_notification"},), {}),
                (message, "create", ({**born, "parent_id": seen.id},), {}),
                (seen, "write", ({"body": "Forged", "subtype_id": role},), {}),
                (own, "write", ({"body": "Forged"},), {}),
                (own, "write", ({"subtype_id": role},), {}),
                (own, "write", ({"body_json": {"tool_calls": []}},), {}),
                (self.question, "write", ({"body": "Forged"},), {}),
                (self.question, "unlink", (), {}),
            ]
            for records, method, args, kwargs in ways:
                with self.subTest(user=user.login, method=method, args=args, kwargs=kwargs):
                    self._assert_refused(self._rpc(user, records, method, *args, **kwargs))
            self.assertEqual(self._context_of(self.thread), told)

    def test_nobody_speaks_there_by_way_of_another_record(self):
        partner = self.manager.partner_id
        told = self._context_of(self.thread)
        here = {"model": "llm.thread", "res_id": self.thread.id}
        role = self.env.ref("llm.mt_user").id
        notified = {"body": "Forged", "partner_ids": partner.ids, "subtype_id": role, **here}
        for records in (partner, self.env["mail.thread"]):
            self._rpc(self.manager, records, "message_notify", **notified)
        own = partner.message_post(body="Mine", author_id=self.manager.partner_id.id)
        self._assert_refused(self._rpc(self.manager, own, "write", here))
        self.assertEqual(self._context_of(self.thread), told)

    def test_the_composer_speaks_for_its_user_only(self):
        told = [one for one in self._context_of(self.thread) if one[2]]
        for mode in ("comment", "mass_mail"):
            values = {
                "model": "llm.thread",
                "res_ids": json.dumps(self.thread.ids),
                "body": "Forged",
                "composition_mode": mode,
                "subtype_id": self.env.ref("llm.mt_user").id,
            }
            composer = self.env["mail.compose.message"]
            made = self._rpc(self.manager, composer, "create", values)
            if not isinstance(made, Exception):
                self._rpc(self.manager, composer.browse(made), "action_send_mail")
            now = [one for one in self._context_of(self.thread) if one[2]]
            self.assertEqual(now, told, mode)

    def test_the_owner_changes_no_notification_to_somebody_else(self):
        notification = self.question.sudo().copy({
            "message_type": "user_notification",
            "author_id": self.manager.partner_id.id,
        })
        forged = self._rpc(self.owner, notification, "write", {"body": "Forged"})
        self._assert_refused(forged)

    def test_no_default_makes_a_message_too_long(self):
        born = {"model": "llm.thread", "res_id": self.thread.id}
        born |= {"subtype_id": self.env.ref("llm.mt_user").id}
        for name, value in (
            ("body", "x" * (BOUNDS["html"] + 1)),
            ("body_json", {"x": "y" * BOUNDS["json"]}),
        ):
            with self.subTest(name):
                context = {f"default_{name}": value}
                message = self.env["mail.message"].with_user(self.owner).with_context(**context)
                with self.assertRaises(UserError):
                    message.create(born)

    def test_who_works_here_has_no_message_of_no_conversation(self):
        message = self.question.sudo().copy({
            "res_id": False,
            "author_id": self.manager.partner_id.id,
        })
        for method, values in (("write", [{"body": "Forged"}]), ("unlink", [])):
            self._assert_refused(self._rpc(self.other, message, method, *values))

    def test_a_message_that_outlived_its_conversation_is_refused(self):
        gone = self.question.sudo().copy({"res_id": 2**31 - 1})
        kept = self.question.sudo().copy()
        messages = (gone | kept).with_user(self.owner)
        self.assertEqual(messages._filtered_access("write"), kept)

    def test_who_does_not_work_here_changes_no_internal_note(self):
        guest = new_test_user(self.env, "ownership_guest", "base.group_portal")
        note = self.thread.sudo().message_post(body="Internal", author_id=self.owner.partner_id.id)
        with patch.object(
            type(self.thread), "_filtered_access", lambda threads, _operation: threads
        ):
            forbidden = note.with_user(guest)._get_forbidden_access("write")
        self.assertEqual(forbidden, note)

    def test_the_owner_speaks_and_corrects(self):
        result = self._rpc(self.owner, self.question, "write", {"body": "Better"})
        self.assertIs(result, True)
        posted = self._rpc(self.owner, self.thread, "message_post", body="More", llm_role="user")
        self.assertNotIsInstance(posted, Exception)

    def test_attachments_of_a_conversation_are_its_owners(self):
        attachment = (
            self
            .env["ir.attachment"]
            .with_user(self.owner)
            .create({
                "name": "a.txt",
                "raw": b"mine",
                "res_model": "llm.thread",
                "res_id": self.thread.id,
            })
        )
        values = {"name": "b.txt", "res_model": "llm.thread", "res_id": self.thread.id}
        for user in (self.other, self.manager):
            with self.subTest(user=user.login):
                self._assert_refused(self._rpc(user, attachment, "write", {"raw": "Zm9yZ2Vk"}))
                self._assert_refused(self._rpc(user, attachment.browse(), "create", values))
        self.assertEqual(attachment.raw, b"mine")

    # === THE JOB === #

    def test_no_draft_is_written_by_another(self):
        job = self._create_job(thread_id=self.thread.id, user=self.owner)
        mine = self._create_thread(user=self.manager)
        values = {
            "generation_inputs": {"prompt": "Forged"},
            "identity_key": "forged",
            "input_message_id": self.question.id,
            "model_id": self.native_model.id,
            "post": False,
            "provider_id": self.native.id,
            "thread_id": mine.id,
        }
        self.assertEqual(values.keys(), OWNER_FIELDS - MANAGER_FIELDS)
        before = self._values(job)
        for user in (self.other, self.manager, self.admin):
            for name, value in values.items():
                with self.subTest(user=user.login, field=name):
                    refused = self._rpc(user, job, "write", {name: value})
                    self._assert_refused(refused)
                    if user != self.other:
                        self.assertIn(self.owner.name, str(refused))
                    nested = {"generation_job_ids": [Command.update(job.id, {name: value})]}
                    self._assert_refused(self._rpc(user, self.thread, "write", nested))
                    self._assert_refused(self._rpc(user, mine, "write", nested))
                    self._assert_refused(
                        self._rpc(user, job, "web_save", {name: value}, specification={})
                    )
                    if not isinstance(value, dict):
                        column = f"{name}/.id" if name.endswith("_id") else name
                        row = [str(job.id), str(value)]
                        self._assert_refused(self._rpc(user, job, "load", [".id", column], [row]))
        self.assertEqual(self._values(job), before)

    def test_a_draft_is_queued_by_its_owner(self):
        job = self._create_job(thread_id=self.thread.id, user=self.owner)
        for user in (self.other, self.manager, self.admin):
            with self.subTest(user=user.login):
                self._assert_refused(self._rpc(user, job, "action_queue"))
                self.assertEqual(job.state, "draft")
        refusal = self._rpc(self.manager, job, "action_queue")
        self.assertIn("owner", str(refusal))
        self.assertIs(self._rpc(self.owner, job, "action_queue"), True)
        self.assertEqual(job.state, "queued")

    def test_nobody_has_a_job_answer_in_the_conversation_of_another(self):
        for user in (self.manager, self.admin):
            values = {"thread_id": self.thread.id}
            none = self.env["llm.generation.job"]
            self._assert_refused(self._rpc(user, none, "create", values))
            mine = self._rpc(user, none, "create", {"thread_id": self._create_thread(user=user).id})
            self._assert_refused(self._rpc(user, none.browse(mine), "write", values))
            job = self._create_job(thread_id=self.thread.id, user=self.owner)
            self._assert_refused(self._rpc(user, job, "copy"))

    def test_a_manager_sees_cancels_retries_reorders_and_deletes(self):
        for state, method in (
            ("draft", "action_cancel"),
            ("queued", "action_cancel"),
            ("queued", "action_start"),
            ("failed", "action_retry"),
        ):
            job = self._create_job(state, thread_id=self.thread.id, user=self.owner)
            with self.subTest(state=state, method=method):
                self.assertTrue(self._rpc(self.manager, job, "read", ["state", "name"]))
                if state != "draft":
                    values = {"priority": 1, "max_retries": 9}
                    self.assertIs(self._rpc(self.manager, job, "write", values), True)
                self.assertIs(self._rpc(self.manager, job, method), True)
                job.action_cancel() if job.can_cancel else None
                self.assertIs(self._rpc(self.manager, job, "unlink"), True)
        self.assertTrue(self._rpc(self.manager, self.thread, "read", ["name"]))
        self.assertIs(self._rpc(self.manager, self.thread, "unlink"), True)

    # === WHAT A PERSON CHOOSES === #

    def test_a_user_does_not_run_before_others(self):
        thread = self._create_thread()
        none = self.env["llm.generation.job"]
        draft = self._create_job(thread_id=thread.id)
        here = {"thread_id": thread.id}
        nested = {"generation_job_ids": [Command.create({"priority": 9})]}
        nested_write = {"generation_job_ids": [Command.update(draft.id, {"priority": 9})]}
        default = {"context": {"default_priority": 9}}
        for records, method, args, kwargs in (
            (none, "create", ({**here, "priority": 9},), {}),
            (none, "create", ({**here, "priority": False},), {}),
            (none, "create", (here,), default),
            (none, "load", (["thread_id/.id", "priority"], [[str(thread.id), "9"]]), {}),
            (none, "load", ([".id", "priority"], [[str(draft.id), "9"]]), {}),
            (draft, "write", ({"priority": 9},), {}),
            (draft, "apply_bulk", ("prioritize", 9), {}),
            (thread, "write", (nested,), {}),
            (thread, "write", (nested_write,), {}),
        ):
            with self.subTest(method=method, args=args, kwargs=kwargs):
                self._assert_refused(self._rpc(self.user, records, method, *args, **kwargs))
        self.env["ir.default"].with_user(self.user).set(none._name, "priority", 1, user_id=True)
        self._assert_refused(self._rpc(self.user, none, "create", here))
        self.assertEqual(thread.generation_job_ids.mapped("priority"), [10])
        self.assertIs(self._rpc(self.user, draft, "write", {"priority": 11}), True)

    def test_no_default_of_a_user_is_born_forged(self):
        none = self.env["llm.generation.job"]
        own = self.env["ir.default"].with_user(self.user)
        for name, value in {
            "state": "completed",
            "external_job_id": "forged",
            "retry_count": 7,
            "name": "forged",
            "webhook_token": "forged",
            "company_id": self.env["res.company"].create({"name": "Elsewhere"}).id,
        }.items():
            own.set(none._name, name, value, user_id=True)
        made = self._rpc(self.user, none, "create", {"thread_id": self._create_thread().id})
        job = none.browse(made)
        self.assertEqual((job.state, job.retry_count, job.external_job_id), ("draft", 0, False))
        self.assertEqual(job.company_id, self.user.company_id)
        self.assertNotIn("forged", (job.name, job.webhook_token))

    def test_numbers_are_bounded_for_all(self):
        thread = self._create_thread()
        draft = self._create_job(thread_id=thread.id)
        for name, value in (
            ("max_retries", MAX_RETRIES + 1),
            ("max_retries", -1),
            ("max_retries", 2**31),
            ("max_retries", "many"),
            ("priority", 2**31),
            ("priority", -(2**31) - 1),
            ("priority", [1]),
            ("priority", float("inf")),
        ):
            for user in (self.user, self.manager):
                with self.subTest(user=user.login, field=name, value=value):
                    refusal = self._rpc(user, draft, "write", {name: value})
                    self.assertIn("whole number from", str(refusal))
                    mine = self._create_thread(user=user)
                    values = {"thread_id": mine.id, name: value}
                    refusal = self._rpc(user, draft.browse(), "create", values)
                    self.assertIn("whole number from", str(refusal))
            with self.assertRaises(UserError), self.env.cr.savepoint():
                draft.sudo().write({name: value})
        self.env["ir.config_parameter"].set_param("llm_generate_job.max_retries", "5000")
        self.assertEqual(self._create_job().max_retries, MAX_RETRIES)

    def test_nobody_names_a_job(self):
        for user in (self.user, self.manager):
            thread = self._create_thread(user=user)
            none = self.env["llm.generation.job"]
            draft = self._create_job(thread_id=thread.id, user=user)
            name = draft.name
            born = {"thread_id": thread.id, "name": "Forged"}
            for records, method, args in (
                (none, "create", (born,)),
                (none, "load", (["thread_id/.id", "name"], [[str(thread.id), "Forged"]])),
                (none, "load", ([".id", "name"], [[str(draft.id), "Forged"]])),
                (draft, "write", ({"name": "Forged"},)),
                (draft, "copy", ({"name": "Forged"},)),
                (thread, "write", ({"generation_job_ids": [Command.create({"name": "Forged"})]},)),
            ):
                with self.subTest(user=user.login, method=method, args=args):
                    self._assert_refused(self._rpc(user, records, method, *args))
            context = {"default_name": "Forged"}
            made = self._rpc(user, none, "create", {"thread_id": thread.id}, context=context)
            self.assertEqual(none.browse(made).name, name)


class TestOwnershipByMail(HttpCase, OwnershipCommon):
    def test_nobody_corrects_the_question_of_another(self):
        for user in (self.manager, self.admin):
            self.authenticate(user.login, user.login)
            answer = self.make_jsonrpc_request_or_error(self.question)
            with self.subTest(user=user.login):
                self.assertIn("error", answer)
                self.assertIn("My question", self.question.body)

    def make_jsonrpc_request_or_error(self, message):
        params = {"message_id": message.id, "update_data": {"body": "Forged"}}
        with mute_logger("odoo.http"):
            response = self.url_open(
                "/mail/message/update_content",
                data=json.dumps({"params": params}),
                headers={"Content-Type": "application/json"},
            )
        self.env.invalidate_all()
        return response.json()
