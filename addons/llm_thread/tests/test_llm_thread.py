from markupsafe import Markup

from odoo.exceptions import ValidationError
from odoo.tests import Form, new_test_user
from odoo.tools import mute_logger

from .common import LlmThreadCommon, words


class TestLlmThread(LlmThreadCommon):
    def test_a_thread_takes_its_owner_and_the_default_model(self):
        other = self.chat_model.copy({"name": "a-first"})

        thread = self._create_thread()

        self.assertNotEqual(thread.model_id, other)
        self.assertRecordValues(
            thread,
            [{"user_id": self.user.id, "model_id": self.chat_model.id, "active": True}],
        )
        self.assertEqual(thread.company_id, self.provider.company_id)

    def test_the_model_follows_the_provider(self):
        second = self.provider.copy({"name": "Second"})
        model = self.chat_model.copy({"provider_id": second.id})

        with Form(self.thread) as form:
            form.provider_id = second

        self.assertEqual(self.thread.model_id, model)

    def test_a_model_of_another_provider_is_refused(self):
        second = self.provider.copy({"name": "Second"})
        model = self.chat_model.copy({"provider_id": second.id})

        with self.assertRaisesRegex(ValidationError, "no model of Fake"):
            self.thread.model_id = model

    def test_a_model_that_is_asked_stays_with_its_provider(self):
        second = self.provider.copy({"name": "Second"})
        free = self.chat_model.copy({"name": "free"})
        self.thread.active = False
        with self.assertRaisesRegex(ValidationError, "stays with its provider"):
            self.chat_model.provider_id = second
        free.provider_id = second
        self.assertEqual(free.provider_id, second)

    def test_what_was_said_goes_with_its_owner(self):
        owner = new_test_user(self.env, "leaves_us", "base.group_user")
        thread = self._create_thread().sudo()
        thread.user_id = owner
        said = thread.message_post(body="A secret", llm_role="user")
        file = self.env["ir.attachment"].create({
            "name": "secret.txt", "raw": b"x", "res_model": thread._name, "res_id": thread.id
        })  # fmt: skip
        others = self.thread.message_post(body="Mine", llm_role="user")
        owner.unlink()
        self.assertFalse(thread.exists() or said.exists() or file.exists())
        self.assertTrue(others.exists())

    def test_a_users_message_is_escaped_text_with_an_author(self):
        message = self.thread.message_post(body="<b>1 < 2</b>\nyes", llm_role="user")

        self.assertEqual(message.body, "<p>&lt;b&gt;1 &lt; 2&lt;/b&gt;<br>yes</p>")
        self.assertRecordValues(
            message,
            [{"llm_role": "user", "author_id": self.user.partner_id.id, "is_error": False}],
        )

    def test_an_assistants_message_is_safe_html_without_an_author(self):
        message = self.thread.message_post(
            body="**Hi** <script>alert(1)</script>",
            llm_role="assistant",
            author_id=False,
            body_json={"x": 1},
            is_error=True,
        )

        self.assertEqual(
            message.body,
            '<p dir="auto"><strong>Hi</strong> &lt;script&gt;alert(1)&lt;/script&gt;</p>',
        )
        self.assertRecordValues(
            message,
            [
                {
                    "llm_role": "assistant",
                    "author_id": False,
                    "body_json": {"x": 1},
                    "is_error": True,
                }
            ],
        )

    def test_html_is_sanitised(self):
        message = self.thread.message_post(
            body=Markup("<p onclick='x()'>Hi<script>x()</script></p>"), llm_role="assistant"
        )

        self.assertEqual(message.body, "<p>Hi</p>")

    def test_each_role_has_its_subtype(self):
        for role in ("user", "assistant", "tool", "system"):
            with self.subTest(role=role):
                message = self.thread.message_post(body="x", llm_role=role)

                self.assertEqual(message.llm_role, role)
                self.assertEqual(message.subtype_id, self.env.ref(f"llm.mt_{role}"))

    def test_an_unknown_role_is_refused(self):
        with self.assertRaises(ValueError):
            self.thread.message_post(body="x", llm_role="robot")

    def test_nobody_is_notified_of_a_conversation(self):
        follower = new_test_user(self.env, "thread_follower").partner_id
        self.thread.sudo().message_subscribe(
            follower.ids, subtype_ids=self.env.ref("llm.mt_assistant").ids
        )

        message = self.thread.message_post(body="x", llm_role="assistant")
        note = self.thread.message_post(body="x", partner_ids=follower.ids)

        self.assertFalse(message.notification_ids)
        self.assertTrue(note.notification_ids)

    def test_the_first_question_names_a_new_thread(self):
        thread = self._create_thread(name=self.env["llm.thread"]._default_name())

        self._ask(words("Yes"), text="Is it <late>?", thread=thread)
        self._ask(words("Yes"), text="And now?", thread=thread)

        self.assertEqual(thread.name, "Is it <late>?")

    def test_the_context_tells_about_the_record_when_it_may_be_read(self):
        partner = self.env["res.partner"].create({"name": "Azure"})
        thread = self._create_thread(model="res.partner", res_id=partner.id)
        self.assertEqual(thread.get_context()["related_record"], "Azure")
        self.assertIn("Azure", thread.get_prepend_messages()[0]["content"])

        for model, res_id in (("ir.cron", self.env["ir.cron"].search([], limit=1).id), ("x", 1)):
            with self.subTest(model=model), mute_logger("odoo.models"):
                thread.write({"model": model, "res_id": res_id})

                self.assertNotIn("related_record", thread.get_context())
                self.assertFalse(thread.get_prepend_messages())

    def test_the_conversation_shows_messages_with_a_role_oldest_first(self):
        self.thread.message_post(body="A note")
        self._ask(words("Hello"))

        conversation = self.thread.get_conversation()

        self.assertEqual(
            [(message["llm_role"], message["body"]) for message in conversation],
            [("user", "<p>Hi</p>"), ("assistant", '<p dir="auto">Hello</p>')],
        )

    def test_conversations_that_were_never_begun_are_removed(self):
        Thread = self.env["llm.thread"].with_context(tracking_disable=True)
        default = {"name": Thread._default_name(), "provider_id": self.provider.id}
        empty = Thread.create(default)
        said = Thread.create(default)
        said.message_post(body="Hi", llm_role="assistant")
        named = Thread.create({**default, "name": "Plans"})
        about = Thread.create({**default, "model": "res.partner", "res_id": 1})
        noted = Thread.create(default)
        noted.message_post(body="To be gone on with", message_type="comment")
        kept = Thread.create(default)
        self.env["ir.attachment"].create({
            "name": "plan.txt", "raw": b"A plan", "res_model": Thread._name, "res_id": kept.id,
        })  # fmt: skip
        old = empty + said + named + about + noted + kept
        self.env.flush_all()
        self.env.cr.execute(
            "UPDATE llm_thread SET write_date = write_date - interval '2 days' WHERE id IN %s",
            [tuple(old.ids)],
        )
        old.invalidate_recordset()
        fresh = Thread.create(default)

        Thread._gc_empty()

        self.assertEqual((old + fresh).exists(), old - empty + fresh)
