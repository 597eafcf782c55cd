import time

import requests

from odoo.tests import HttpCase, tagged
from odoo.tools import mute_logger

from .common import FakeChatMixin, words


def pause():
    """Leave the browser the time to see what came so far."""
    time.sleep(2)


@tagged("post_install", "-at_install")
class TestUi(FakeChatMixin, HttpCase):
    """The conversation as this addon has it, without those that build on it."""

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        others = cls.env.ref("base.module_llm_thread").downstream_dependencies(
            exclude_states=("uninstalled",)
        )
        names = cls.registry._init_modules.difference(others.mapped("name"))
        cls.classPatch(cls.registry["ir.asset"], "_get_installed_addons_list", lambda _self: names)
        cls.classPatch(
            cls.registry["llm.thread"],
            "_open_stream_cursor",
            lambda thread: thread.env.registry.cursor(),
        )
        inherited = [("model", "=", "llm.thread"), ("inherit_id", "!=", False)]
        cls.env["ir.ui.view"].search(inherited).active = False
        cls.registry.clear_all_caches()
        cls.addClassCleanup(cls.registry.clear_all_caches)

    def test_a_conversation_streams_fails_and_is_tried_again(self):
        thread = (
            self.env["llm.thread"].with_user(self.user).create({"provider_id": self.provider.id})
        )
        self.answers = [
            [*words("It is "), pause, *words("42 <b>sure</b>.")],
            [*words("It"), requests.ReadTimeout("slow")],
            words("It is 48."),
        ]

        with mute_logger("odoo.addons.llm_thread.controllers.main"):
            self.start_tour(
                f"/odoo/llm-threads/{thread.id}", "llm_conversation_tour", login="thread_user"
            )

        self.assertEqual(
            [message["llm_role"] for message in thread.get_conversation()],
            ["user", "assistant", "user", "assistant", "assistant"],
        )

    def test_an_answer_can_be_stopped(self):
        thread = (
            self.env["llm.thread"].with_user(self.user).create({"provider_id": self.provider.id})
        )
        self.answers = [
            [
                *words("one"),
                pause,
                *words(" two"),
                pause,
                *words(" three"),
                pause,
                *words(" never"),
            ],
            words("four"),
        ]

        self.start_tour(
            f"/odoo/llm-threads/{thread.id}", "llm_conversation_stop_tour", login="thread_user"
        )

        stopped = thread.get_conversation()[1]
        self.assertIn("one", stopped["body"])
        self.assertNotIn("never", stopped["body"])
        self.assertFalse(stopped["is_error"])

    def test_a_new_thread_is_saved_with_its_first_message(self):
        self.env["llm.provider"].search([("id", "!=", self.provider.id)]).active = False
        self.answers = [words("Good day")]

        self.start_tour("/odoo/llm-threads", "llm_thread_new_tour", login="thread_user")

        thread = self.env["llm.thread"].search([("user_id", "=", self.user.id)])
        self.assertRecordValues(thread, [{"name": "Hello", "model_id": self.chat_model.id}])
