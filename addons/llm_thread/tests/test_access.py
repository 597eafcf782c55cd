from odoo.exceptions import AccessError
from odoo.service.model import get_public_method
from odoo.tests import new_test_user

from .common import LlmThreadCommon, words


class TestAccess(LlmThreadCommon):
    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.other = new_test_user(cls.env, "thread_other", "base.group_user")
        cls.manager = new_test_user(cls.env, "thread_manager", "llm.group_llm_manager")

    def test_a_user_sees_own_threads_only(self):
        mine = self._create_thread()
        threads = self.env["llm.thread"].with_user(self.other)

        self.assertFalse(threads.search([("id", "=", mine.id)]))
        for method in ("get_conversation", "get_context"):
            with self.subTest(method=method), self.assertRaises(AccessError):
                getattr(mine.with_user(self.other), method)()

    def test_a_user_cannot_read_or_post_messages_in_anothers_thread(self):
        self._ask(words("Secret"))

        with self.assertRaises(AccessError):
            self._messages().with_user(self.other).read(["body"])
        with self.assertRaises(AccessError):
            self.thread.with_user(self.other).message_post(body="Hi", llm_role="user")

    def test_a_user_cannot_give_a_thread_away(self):
        with self.assertRaises(AccessError):
            self.thread.user_id = self.other

    def test_a_manager_sees_all_threads(self):
        self.assertIn(self.thread, self.env["llm.thread"].with_user(self.manager).search([]))

    def test_threads_of_another_company_are_hidden_from_managers_too(self):
        company = self.env["res.company"].create({"name": "Far"})
        provider = self.provider.copy({"company_id": company.id})
        model = self.chat_model.copy({"provider_id": provider.id})
        thread = self.env["llm.thread"].create({
            "name": "Far",
            "provider_id": provider.id,
            "model_id": model.id,
        })
        threads = self.env["llm.thread"].with_user(self.manager)

        self.assertNotIn(thread, threads.search([]))
        self.manager.company_ids += company
        self.assertIn(thread, threads.with_context(allowed_company_ids=company.ids).search([]))

    def test_generators_are_no_rpc(self):
        for method in ("generate", "generate_messages", "message_post_from_stream"):
            with self.subTest(method=method), self.assertRaises(AccessError):
                get_public_method(self.thread, method)
