import json

from markupsafe import Markup

from odoo.tests import TransactionCase, tagged


@tagged("post_install", "-at_install")
class TestMailMessage(TransactionCase):
    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.partner = cls.env["res.partner"].create({"name": "Ada"})

    def _post(self, role, **values):
        return self.partner.message_post(subtype_xmlid=f"llm.mt_{role}", **values)

    def test_the_role_follows_the_subtype(self):
        for role in ("user", "assistant", "tool", "system"):
            with self.subTest(role=role):
                self.assertEqual(self._post(role, body="Hello").llm_role, role)
        self.assertFalse(self.partner.message_post(body="A note").llm_role)

    def test_messages_are_found_by_role(self):
        message = self._post("tool", body="Result")
        self._post("user", body="Question")

        found = self.env["mail.message"].search([
            ("model", "=", "res.partner"),
            ("res_id", "=", self.partner.id),
            ("llm_role", "=", "tool"),
        ])

        self.assertEqual(found, message)

    def test_structured_body_and_error_mark_are_kept(self):
        calls = {"tool_calls": [{"id": "1", "function": {"name": "f", "arguments": "{}"}}]}

        message = self._post("assistant", body="No", body_json=calls, is_error=True)

        self.assertRecordValues(message, [{"body_json": calls, "is_error": True}])

    def test_an_assistant_needs_no_author(self):
        message = self._post("assistant", body="Hello", author_id=False)

        self.assertFalse(message.author_id)
        self.assertFalse(message.to_store_format()["author_name"])

    def test_an_llm_message_notifies_nobody(self):
        follower = self.env["res.partner"].create({"name": "Bob", "email": "bob@example.com"})
        self.partner.message_subscribe(follower.ids)

        self.assertFalse(self._post("assistant", body="Hello").notification_ids)

    def test_the_store_format_is_plain_data(self):
        message = self._post(
            "user",
            body=Markup("<p>Hello</p>"),
            body_json={"prompt": "x"},
            author_id=self.partner.id,
            attachments=[("note.txt", b"text")],
        )

        data = json.loads(json.dumps(message.to_store_format()))

        attachment = message.attachment_ids
        self.assertEqual(
            data,
            {
                "id": message.id,
                "model": "res.partner",
                "res_id": self.partner.id,
                "body": "<p>Hello</p>",
                "llm_role": "user",
                "body_json": {"prompt": "x"},
                "is_error": False,
                "author_name": "Ada",
                "date": message.date.strftime("%Y-%m-%d %H:%M:%S"),
                "attachments": [
                    {
                        "id": attachment.id,
                        "name": "note.txt",
                        "mimetype": "text/plain",
                        "url": f"/web/content/{attachment.id}",
                    }
                ],
            },
        )
