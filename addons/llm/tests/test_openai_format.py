import base64

from markupsafe import Markup

from odoo.tests import BaseCase, tagged

from ..openai_format import format_messages, html_to_text
from .common import LlmCommon

PIXEL = (
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwAD"
    "hgGAWjR9awAAAABJRU5ErkJggg=="
)


@tagged("post_install", "-at_install")
class TestHtmlToText(BaseCase):
    def test_text_keeps_lines_lists_and_indentation(self):
        for body, text in (
            ("", ""),
            ("<p>One</p><p>Two</p>", "One\n\nTwo"),
            ("<p>a &lt; b &amp;&nbsp;c</p>", "a < b & c"),
            ("a<br/>b", "a\nb"),
            ("<p>See <b>this</b> and <a href='x'>that</a>.</p>", "See **this** and [that](x)."),
            ("<ul><li>one</li><li>two</li></ul>", "- one\n- two"),
            ("<pre>if x:\n    y()</pre>", "```\nif x:\n    y()\n```"),
            ("<p>{<br/>  a<br/>    b<br/>}</p>", "{\n  a\n    b\n}"),
            ("<p>a<!-- -->b</p>", "ab"),
            ("<p>2**3, a_b_c</p>", "2**3, a_b_c"),
            (
                "<table><tr><td>18</td><td>01</td></tr></table>",
                "|  |  |\n| --- | --- |\n| 18 | 01 |",
            ),
        ):
            with self.subTest(body=body):
                self.assertEqual(html_to_text(body), text)


class TestOpenaiFormat(LlmCommon):
    def setUp(self):
        super().setUp()
        self.partner = self.env["res.partner"].create({"name": "Ada"})
        self.messages = self.env["mail.message"]

    def _say(self, role, body="", **values):
        message = self.partner.message_post(
            body=Markup(body), subtype_xmlid=f"llm.mt_{role}" if role else None, **values
        )
        self.messages |= message
        return message

    def _call(self, call_id, arguments="{}"):
        return {"id": call_id, "function": {"name": "find", "arguments": arguments}}

    def test_a_conversation_becomes_roles_and_contents(self):
        self._say("user", "<p>Hello</p>")
        self._say(None, "A note of a colleague")
        self._say("assistant", "<p>Hi!</p>")

        self.assertEqual(
            format_messages(self.messages, system_prompt="Be brief."),
            [
                {"role": "system", "content": "Be brief."},
                {"role": "user", "content": "Hello"},
                {"role": "assistant", "content": "Hi!"},
            ],
        )

    def test_the_order_given_is_kept(self):
        self._say("user", "one")
        self._say("user", "two")

        contents = [data["content"] for data in format_messages(self.messages[::-1])]

        self.assertEqual(contents, ["two", "one"])

    def test_formatted_messages_are_taken_as_they_are(self):
        messages = [{"role": "user", "content": "Hello"}]

        self.assertEqual(format_messages(messages), messages)
        self.assertEqual(format_messages(None), [])

    def test_tool_calls_go_with_their_results(self):
        self._say("assistant", body_json={"tool_calls": [self._call("1", {"name": "é"})]})
        self._say("tool", body_json={"tool_call_id": "1", "result": {"ids": [7]}})

        self.assertEqual(
            format_messages(self.messages),
            [
                {
                    "role": "assistant",
                    "content": None,
                    "tool_calls": [
                        {
                            "id": "1",
                            "type": "function",
                            "function": {"name": "find", "arguments": '{"name": "é"}'},
                        }
                    ],
                },
                {"role": "tool", "tool_call_id": "1", "content": '{"ids": [7]}'},
            ],
        )

    def test_a_failed_tool_tells_its_error(self):
        self._say("assistant", body_json={"tool_calls": [self._call("1")]})
        self._say("tool", body_json={"tool_call_id": "1", "error": "No such model."})

        self.assertEqual(
            format_messages(self.messages)[-1]["content"], '{"error": "No such model."}'
        )

    def test_calls_without_answer_and_answers_without_call_are_left_out(self):
        self._say("assistant", "Wait", body_json={"tool_calls": [self._call("lost")]})
        self._say("tool", body_json={"tool_call_id": "stray", "result": 1})

        self.assertEqual(format_messages(self.messages), [{"role": "assistant", "content": "Wait"}])

    def test_each_call_goes_with_its_own_result_whatever_the_ids(self):
        for turn in (1, 2):
            calls = [{**self._call("x"), "extra_content": {"n": turn}}, self._call("x")]
            self._say("assistant", body_json={"tool_calls": [*calls, self._call("y")]})
            for result in (10 * turn, 10 * turn + 1):
                self._say("tool", body_json={"tool_call_id": "x", "result": result})

        formatted = format_messages(self.messages)

        roles = ["assistant", "tool", "tool"]
        self.assertEqual([data["role"] for data in formatted], roles * 2)
        results = [data["content"] for data in formatted if data["role"] == "tool"]
        self.assertEqual(results, ["10", "11", "20", "21"])
        self.assertEqual([len(data["tool_calls"]) for data in formatted[::3]], [2, 2])
        self.assertEqual(formatted[3]["tool_calls"][0]["extra_content"], {"n": 2})

    def test_a_tool_that_was_interrupted_says_so(self):
        self._say("assistant", body_json={"tool_calls": [self._call("1")]})
        self._say("tool", "Tool: find", body_json={"tool_call_id": "1", "status": "executing"})

        self.assertIn("not known", format_messages(self.messages)[-1]["content"])

    def test_error_notices_and_empty_messages_are_left_out(self):
        self._say("user", "Hello")
        self._say("assistant", "The provider is busy.", is_error=True)
        self._say("user", body_json=["not a dict"])

        self.assertEqual(format_messages(self.messages), [{"role": "user", "content": "Hello"}])

    def test_an_image_without_content_is_not_sent(self):
        multimodal = self._create_model("b", model_use="multimodal")
        empty = self.env["ir.attachment"].create({"name": "none.png", "mimetype": "image/png"})
        self._say("user", "Look", attachment_ids=empty.ids)

        self.assertEqual(format_messages(self.messages, model=multimodal)[0]["content"], "Look")

    def test_only_a_multimodal_model_gets_images(self):
        attachment = ("dot.png", base64.b64decode(PIXEL))
        self._say("user", "Look", attachments=[attachment, ("note.txt", b"text")])
        chat = self._create_model("a")
        multimodal = self._create_model("b", model_use="multimodal")

        self.assertEqual(format_messages(self.messages, model=chat)[0]["content"], "Look")
        self.assertEqual(
            format_messages(self.messages, model=multimodal)[0]["content"],
            [
                {"type": "text", "text": "Look"},
                {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{PIXEL}"}},
            ],
        )
