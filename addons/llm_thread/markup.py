"""From the plain text of people and models to HTML that is safe to show."""

import re

from markdown_it import MarkdownIt
from markupsafe import Markup, escape

from odoo.tools import html_sanitize


def _let_blocks_find_their_direction(state):
    for token in state.tokens:
        if token.nesting == 1 and not token.level:
            token.attrSet("dir", "auto")


BREAKS_RE = re.compile(r"\n\s*\n+")
#: Tags are shown as they are written, and pictures of other servers are not fetched.
MARKDOWN = MarkdownIt("js-default", {"html": False, "breaks": True}).disable("image")
MARKDOWN.core.ruler.push("direction", _let_blocks_find_their_direction)
#: Characters and brackets of a text that is read as Markdown: pairing more takes seconds.
LONGEST, MOST_BRACKETS = 100_000, 5000


def text_to_html(text):
    """Return paragraphs and line breaks as HTML, everything else escaped."""
    paragraphs = [part for part in BREAKS_RE.split((text or "").strip("\n")) if part.strip()]
    return Markup("").join(
        Markup("<p>%s</p>") % Markup("<br/>").join(escape(line) for line in part.split("\n"))
        for part in paragraphs
    )


def markdown_to_html(text):
    """Return the text of a model as HTML.

    A fence that is not closed yet, as in a growing answer, is code to the end.
    """
    text = text or ""
    if len(text) > LONGEST or text.count("[") > MOST_BRACKETS:
        return text_to_html(text)
    return html_sanitize(Markup(MARKDOWN.render(text).strip()))
