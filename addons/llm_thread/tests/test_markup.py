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
        self.assertEqual(
            markdown_to_html(
                "Use **`x < 1`** and `a*b*c`:\n\n```python\nif x < 1:\n\n    **no**\n```\nEnd"
            ),
            "<p>Use <b><code>x &lt; 1</code></b> and <code>a*b*c</code>:</p>"
            "<pre>if x &lt; 1:\n\n    **no**</pre><p>End</p>",
        )

    def test_a_fence_still_open_is_code(self):
        self.assertEqual(markdown_to_html("So:\n```\nx = 1"), "<p>So:</p><pre>x = 1</pre>")

    def test_no_tag_of_a_model_gets_through(self):
        html = markdown_to_html("<script>x</script> **<img src=x onerror=y>** `<a>`\n```\n<i>")

        self.assertNotIn("<script", html)
        self.assertNotIn("<img", html)
        self.assertNotIn("<a>", html)
        self.assertNotIn("<i>", html)
