import base64
import time
from pathlib import Path

from lxml.html import fragment_fromstring
from markupsafe import Markup

from odoo.tests import tagged

from ..protocol.markdown import LONGEST, Rendered, html_to_text, markdown_to_html
from .common import LlmGenerationCommon, posted

#: Rich and hostile Markdown, by name; `make screenshots` takes a picture of each.
ANSWERS = {
    path.stem: path.read_bytes().decode()
    for path in sorted((Path(__file__).parent / "answers").glob("*.md"))
}
#: What people paste, as an editor has it, and what a model has to read of it.
PASTED = {
    "<p>before <!-- --> after</p>": "before  after",
    "<p>{<br>  &quot;a&quot;: [<br>    1<br>  ]<br>}</p>": '{\n  "a": [\n    1\n  ]\n}',
    "<p>`2**3` and a_b_c</p>": "`2**3` and a_b_c",
    "<p>x&nbsp;&nbsp;&nbsp;y</p><p>z</p>": "x   y\n\nz",
    "<table><tr><td>18</td><td>01</td></tr></table>": "|  |  |\n| --- | --- |\n| 18 | 01 |",
    '<p>See <a href="https://example.com/a">this</a>.</p>': "See [this](https://example.com/a).",
    "<ol><li>one<ul><li>two</li></ul></li></ol>": "1. one\n   - two",
    "<pre>if x:\n    y()</pre>": "```\nif x:\n    y()\n```",
    "{\n  &quot;posted&quot;: &quot;as a text&quot;\n}": '{\n  "posted": "as a text"\n}',
}
#: The tags of all of Markdown.
TAGS = {
    *("a", "blockquote", "br", "code", "div", "em", "h1", "h2", "h3", "hr", "img", "li", "ol"),
    *("p", "pre", "s", "strong", "table", "tbody", "td", "th", "thead", "tr", "ul"),
}
SIDES = ("left", "center", "right")
#: Seconds in which a text is made HTML, on a machine with other work.
SOON = 15


class SourceCommon(LlmGenerationCommon):
    def setUp(self):
        super().setUp()
        self.thread = self._create_thread(self.direct_model).with_user(self.user)
        if "openai" not in dict(self.env["llm.provider"]._get_available_services()):
            self.skipTest("needs another llm: no service that formats messages")
        self.openai, self.openai_model = self._create_provider("OpenAI", "openai")

    def _answered(self, text, size=7):
        """Return the completed job whose answer is a text that comes in pieces."""
        pieces = [text[start : start + size] for start in range(0, len(text), size)]
        self.service.chunks = [{"content": piece} for piece in pieces]
        job = self.thread.enqueue_generation("Write something.")
        self._process_queue(self.direct)
        self.assertEqual(job.state, "completed", job.error_message)
        return job

    def _told(self, messages):
        """Return what a service is told of messages in the next request."""
        provider = self.openai.with_user(self.user)
        return [
            one["content"] for one in provider.format_messages(messages, model=self.openai_model)
        ]

    def _post(self, body, llm_role="user", **kwargs):
        return self.thread.message_post(body=body, llm_role=llm_role, **kwargs)


class TestSource(SourceCommon):
    """What was written is what is kept, and what a model, a field and a hook are given."""

    def test_there_are_ten_answers(self):
        self.assertEqual(len(ANSWERS), 10)

    def test_an_answer_is_kept_as_it_came(self):
        for name, text in ANSWERS.items():
            with self.subTest(answer=name):
                job = self._answered(text)
                message = job.output_message_id
                self.assertEqual(message.llm_source.encode(), text.encode())
                self.assertEqual(job.output_text.encode(), text.encode())
                self.assertEqual(self._told(message)[-1].encode(), text.encode())

    def test_an_answer_of_a_job_at_the_provider_is_kept_as_it_came(self):
        text = ANSWERS["01-arithmetic"]
        self.service.answers["create"] = [posted(text)]
        job = self._create_job("queued")
        self._process_queue()
        self.assertEqual((job.state, job.output_text), ("completed", text))

    def test_the_next_request_has_the_answer_as_it_came(self):
        text = ANSWERS["02-json"]
        self._answered(text)
        question = "And  2**3\n    indented?"
        self.thread.enqueue_generation(question)
        self._process_queue(self.direct)
        asked = self._told(self.service.calls["chat"][-1])
        self.assertEqual(asked[:3], ["Write something.", text, question])

    def test_what_a_person_wrote_reaches_the_model_as_it_is(self):
        for name, text in ANSWERS.items():
            with self.subTest(question=name):
                self.assertEqual(self._told(self._post(text)), [text])

    def test_of_a_message_that_is_only_html_nothing_is_lost(self):
        for body, text in PASTED.items():
            with self.subTest(body=body):
                self.assertEqual(self._told(self._post(Markup(body))), [text])

    def test_an_edited_message_is_told_as_it_is_now(self):
        message = self._post(ANSWERS["01-arithmetic"], "assistant")
        message.write({"body": Markup("<p>Something else</p>")})
        self.assertFalse(message.llm_source)
        self.assertEqual(self._told(message), ["Something else"])

    def test_a_copy_has_the_source(self):
        message = self._post(ANSWERS["02-json"], "assistant")
        self.assertEqual(message.copy().llm_source, ANSWERS["02-json"])

    def test_a_place_for_a_text_is_never_kept(self):
        message = self._post("2**3", "assistant")
        body = message.body
        with self.assertRaises(ZeroDivisionError), message._with_places() as (mark, texts):
            self.assertEqual(texts, {message.id: "2**3"})
            self.assertIn(mark, message.body)
            self.env.flush_all()
            raise ZeroDivisionError
        self.assertEqual(message.body, body)
        message.invalidate_recordset()
        self.assertEqual(message.body, body)

    def test_what_nobody_can_keep_is_left_out_of_the_source(self):
        self.assertEqual(self._post("a\x00b\ud800").llm_source, "ab?")

    def test_a_picture_without_content_is_not_sent(self):
        if "model_use" not in self.openai_model._fields:
            self.skipTest("needs another llm: models without a use")
        self.openai_model.model_use = "multimodal"
        files = (
            self
            .env["ir.attachment"]
            .with_user(self.user)
            .create([
                {"name": "none.png", "mimetype": "image/png", "res_model": "llm.thread"},
                {
                    "name": "one.png",
                    "mimetype": "image/png",
                    "datas": base64.b64encode(b"\x89PNG\r\n"),
                },
            ])
        )
        message = self._post("Look", attachment_ids=files.ids)
        [content] = self._told(message)
        sent = [part["image_url"]["url"] for part in content if part["type"] == "image_url"]
        self.assertEqual(len(sent), 1, sent)
        self.assertTrue(sent[0].partition("base64,")[2])


@tagged("post_install", "-at_install")
class TestMarkdown(SourceCommon):
    """How an answer is shown: all of Markdown, nothing of HTML."""

    def _html(self, name):
        """Return what is stored as the body of an answer."""
        return str(self._post(ANSWERS[name], "assistant").body)

    def test_nothing_of_a_models_markup_is_run(self):
        for name in ANSWERS:
            with self.subTest(answer=name):
                root = fragment_fromstring(self._html(name), create_parent="div")
                self.assertEqual({one.tag for one in root.iter()} - TAGS, set())
                for address in root.xpath("//@href"):
                    self.assertRegex(address, "^(https?://example.com/|mailto:)")
                self.assertEqual(root.xpath("//@onerror"), [])
                styles = set(root.xpath("//@style"))  # of the columns of tables
                self.assertLessEqual(styles, {f"text-align:{one}" for one in SIDES})
        self.assertIn("&lt;script&gt;alert(1)&lt;/script&gt;", self._html("08-markup"))
        self.assertIn("before &lt;!-- --&gt; after", self._html("08-markup"))

    def test_a_fence_of_four_holds_one_of_three(self):
        html = self._html("06-fences")
        self.assertEqual(html.count("<pre"), 3)
        self.assertIn('```python\nif x &lt; 1:\n\treturn "&lt;b&gt;"\n```', html)

    def test_the_structure_is_kept(self):
        for name, parts in {
            "01-arithmetic": ("<code>2**3</code>", "Total: 2**10, or 2**3**2. a", "<s>old</s>"),
            "02-json": ('    "nested": {\n        "list": [',),
            "03-tables": ("<table", "<td", "Bolt | M8"),
            "04-lists": ('<ol start="3"', "<ul>"),
            "05-links": ("<h1", "<h3", "<blockquote", "<hr", 'href="https://example.com/auto"'),
        }.items():
            html = self._html(name)
            for part in parts:
                with self.subTest(answer=name, part=part):
                    self.assertIn(part, html)

    def test_each_block_finds_its_direction(self):
        html = self._html("07-right-to-left")
        for tag in ("<h2", "<p", "<ul", "<blockquote", "<table"):
            with self.subTest(tag=tag):
                self.assertRegex(html, f'{tag} [^>]*dir="auto"')
        self.assertNotIn("<li dir", html)  # it would not count for the direction of its list

    def test_a_picture_of_elsewhere_is_not_fetched(self):
        html = self._html("05-links")
        self.assertNotIn('src="https://example.com', html)
        self.assertIn(">a picture of elsewhere</a>", html)
        self.assertIn('src="/web/image/1"', html)

    def test_a_picture_is_no_page_of_this_server(self):
        for address in (
            "/web/content/../../web/session/logout",
            "/web/image/%2e%2e/session/logout",
            "/web/image/.%2E/session/logout",
            "/web/image\\..\\session/logout",
            "/web/image/..%5csession/logout",
            "/web/session/logout",
        ):
            with self.subTest(address):
                html = self.thread._process_llm_body(f"![x]({address})")
                self.assertNotIn("<img", html)
        for address in ("/web/content/7?download=1&name=a..b", "/web/image/res.users/2/avatar_128"):
            with self.subTest(address):
                self.assertIn("<img", self.thread._process_llm_body(f"![x]({address})"))

    def test_nor_is_it_where_pictures_are_made(self):
        self.direct_model.model_use = "image_generation"
        self.test_a_picture_is_no_page_of_this_server()
        address = f"{self.thread.get_base_url()}/web/session/logout"
        self.assertNotIn("<img", self.thread._process_llm_body(f"![x]({address})"))

    def test_a_picture_that_a_provider_made_is_shown(self):
        self.direct_model.model_use = "image_generation"
        html = self.thread._process_llm_body("![x](https://example.com/made.png)")
        self.assertIn('src="https://example.com/made.png"', html)

    def test_what_is_html_already_stays(self):
        html = Markup("<p>*x*</p>")
        self.assertIs(self.thread._process_llm_body(html), html)
        self.assertFalse(self._post(html, "assistant").llm_source)

    def test_a_text_that_is_long_to_read_is_shown_as_it_is(self):
        for text in ("![" * 50_000, "[a](" * 25_000, "word " * (LONGEST // 4), "> " * 40_000):
            with self.subTest(text=text[:4]):
                began = time.monotonic()
                html = markdown_to_html(text)
                self.assertLess(time.monotonic() - began, SOON)
                self.assertEqual(html.source, text)

    def test_html_without_end_is_read(self):
        for body in ("<div>" * 300 + "deep", "<p>a</p><p>b</p>" * 20_000):
            with self.subTest(body=body[:8]):
                began = time.monotonic()
                self.assertRegex(html_to_text(body), r"deep|a\s+b")
                self.assertLess(time.monotonic() - began, SOON)

    def test_a_text_without_its_source_knows_none(self):
        html = markdown_to_html("x")
        self.assertIsInstance(html, Rendered)
        self.assertIsNone((html + Markup("<p>y</p>")).source)
