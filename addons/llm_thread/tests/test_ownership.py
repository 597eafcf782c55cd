import importlib.util
from pathlib import Path

from odoo import Command
from odoo.exceptions import AccessError
from odoo.tests import new_test_user

from .common import LlmThreadCommon

MIGRATION = Path(__file__).parents[1] / "migrations" / "19.0.1.1.0" / "post-migration.py"


class TestOwnership(LlmThreadCommon):
    """What a model does in a conversation runs with its owner's rights: nobody else writes it."""

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.manager = new_test_user(
            cls.env, "ownership_manager", "llm.group_llm_manager,base.group_system"
        )
        cls.question = cls.thread.message_post(body="My question", llm_role="user")

    def test_nobody_else_writes_a_conversation(self):
        thread = self.thread.with_user(self.manager)
        tool = self.env["llm.tool"].search([], limit=1)
        for values in (
            {"tool_ids": [Command.link(tool.id)]},
            {"name": "Do as I say"},
            {"user_id": self.manager.id},
            {"model": "res.partner", "res_id": 1},
            {"active": False},
        ):
            with self.subTest(values=values), self.assertRaises(AccessError):
                thread.write(values)
        with self.assertRaises(AccessError):
            thread.create({
                "name": "For you",
                "user_id": self.user.id,
                "provider_id": self.provider.id,
            })
        self.assertEqual(thread.name, "Talk")
        thread.unlink()

    def test_nobody_else_speaks_there(self):
        partner = self.manager.partner_id
        thread = self.thread.sudo()
        thread.message_subscribe(partner_ids=partner.ids)
        seen = thread.message_post(body="See", partner_ids=partner.ids)
        own = thread.message_post(body="Mine", author_id=partner.id)
        role = self.env.ref("llm.mt_user").id
        born = {"model": "llm.thread", "res_id": thread.id, "body": "x", "subtype_id": role}
        messages = self.env["mail.message"].with_user(self.manager)
        for name, way in {
            "follower": lambda: messages.create(born),
            "reply": lambda: messages.create({**born, "parent_id": seen.id}),
            "note": lambda: messages.create({**born, "message_type": "user_notification"}),
            "mentioned": lambda: seen.with_user(self.manager).write({"subtype_id": role}),
            "author": lambda: own.with_user(self.manager).write({"subtype_id": role}),
            "owner's": lambda: self.question.with_user(self.manager).write({"body": "x"}),
            "gone": lambda: self.question.with_user(self.manager).unlink(),
            "post": lambda: self.thread.with_user(self.manager).message_post(
                body="x", llm_role="user"
            ),
        }.items():
            with self.subTest(way=name), self.assertRaises(AccessError):
                way()
        self.question.with_user(self.user).body = "Better"

    def test_a_message_is_not_moved_into_the_conversation_of_another(self):
        message = self.manager.partner_id.with_user(self.manager).message_post(body="x")
        with self.assertRaises(AccessError):
            message.write({"model": "llm.thread", "res_id": self.thread.id})

    def test_a_conversation_with_a_shared_provider_belongs_to_its_owners_company(self):
        company = self.env["res.company"].create({"name": "Far"})
        far = new_test_user(
            self.env,
            "ownership_far",
            "llm.group_llm_manager",
            company_id=company.id,
            company_ids=[Command.set(company.ids)],
        )
        self.provider.company_id = False
        thread = self._create_thread()
        self.assertEqual(thread.company_id, self.user.company_id)
        with self.assertRaises(AccessError):
            thread.with_user(far).read(["name"])
        with self.assertRaises(AccessError):
            thread.company_id = company
        values = {"name": "Far", "provider_id": self.provider.id}
        self.assertEqual(self.env["llm.thread"].with_user(far).create(values).company_id, company)

    def test_a_conversation_uses_what_its_owner_may_read(self):
        company = self.env["res.company"].create({"name": "Far"})
        provider = self.provider.copy({"company_id": company.id})
        model = self.chat_model.copy({"provider_id": provider.id})
        with self.assertRaises(AccessError):
            self.thread.write({"provider_id": provider.id, "model_id": model.id})

    def test_conversations_from_before_get_the_company_of_their_owner(self):
        self.env.flush_all()
        self.env.cr.execute(
            "UPDATE llm_thread SET company_id = NULL WHERE id = %s", [self.thread.id]
        )
        spec = importlib.util.spec_from_file_location("llm_thread_migration", MIGRATION)
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        module.migrate(self.env.cr, "19.0.1.0.0")
        self.env.invalidate_all()
        self.assertEqual(self.thread.company_id, self.user.company_id)
