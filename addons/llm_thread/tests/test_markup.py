from odoo.tests import BaseCase

from ..markup import markdown_to_html, text_to_html


class TestMarkup(BaseCase):
    def test_text_becomes_paragraphs_and_line_breaks(self):
        self.assertEqual(text_to_html("a\nb\n\n\nc"), "<p>a<br/>b</p><p>c</p>")

    def test_text_is_escaped(self):
        self.assertEqual(text_to_html("1 < 2 & <b>"), "<p>1 &lt; 2 &amp; &lt;b&gt;</p>")

    def test_nothing_becomes_nothing(self):
        for text in ("", None, "\n \n"):
            with self.subTest(text=text):
                self.assertEqual(text_to_html(text), "")

    def test_markdown_of_a_model(self):
        for text, html in (
            (
                "**`x < 1`**:\nnow",
                '<p dir="auto"><strong><code>x &lt; 1</code></strong>:<br>\nnow</p>',
            ),
            ("- one", '<ul dir="auto">\n<li>one</li>\n</ul>'),
            ("# `2**3`", '<h1 dir="auto"><code>2**3</code></h1>'),
        ):
            with self.subTest(text=text):
                self.assertEqual(markdown_to_html(text), html)

    def test_a_table_of_a_model(self):
        self.assertIn("<th>a</th>", markdown_to_html("| a |\n|---|\n| b |"))

    def test_a_fence_still_open_is_code(self):
        self.assertEqual(
            markdown_to_html("So:\n```\nx = 1"),
            '<p dir="auto">So:</p>\n<pre><code>x = 1</code></pre>',
        )

    def test_a_fence_of_four_holds_one_of_three(self):
        html = markdown_to_html("````\n```\nx\n```\n````")

        self.assertEqual(html, "<pre><code>```\nx\n```\n</code></pre>")

    def test_a_text_that_is_long_to_read_is_shown_as_it_is(self):
        self.assertEqual(markdown_to_html("![" * 5001), text_to_html("![" * 5001))

    def test_no_picture_of_elsewhere_is_fetched(self):
        self.assertNotIn("<img", markdown_to_html("![x](https://example.com/pixel?secret)"))

    def test_no_tag_of_a_model_gets_through(self):
        html = markdown_to_html("<script>x</script> **<img src=x onerror=y>** `<a>`\n```\n<i>")

        self.assertNotIn("<script", html)
        self.assertNotIn("<img", html)
        self.assertNotIn("<a>", html)
        self.assertNotIn("<i>", html)
