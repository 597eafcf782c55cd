"""From the plain text of people and models to HTML that is safe to show."""

import re

from markupsafe import Markup, escape

FENCE_RE = re.compile(r"```[^\n`]*\n(.*?)(?:\n?```|\Z)", re.DOTALL)
CODE_RE = re.compile(r"`([^`\n]+)`")
BOLD_RE = re.compile(r"\*\*(?=\S)([^*\n]+?)(?<=\S)\*\*")
BREAKS_RE = re.compile(r"\n\s*\n+")


def text_to_html(text):
    """Return paragraphs and line breaks as HTML, everything else escaped."""
    paragraphs = [part for part in BREAKS_RE.split((text or "").strip("\n")) if part.strip()]
    return Markup("").join(
        Markup("<p>%s</p>") % Markup("<br/>").join(escape(line) for line in part.split("\n"))
        for part in paragraphs
    )


def markdown_to_html(text):
    """Return the text of a model as HTML: fenced code, `code` and **bold**, else as plain text.

    A fence that is not closed yet, as in a growing answer, is code to the end.
    """
    parts = FENCE_RE.split((text or "").replace("\r\n", "\n"))
    # split() puts the code of the fences at the odd places
    return Markup("").join(
        Markup("<pre>%s</pre>") % part if place % 2 else _inline(text_to_html(part))
        for place, part in enumerate(parts)
    )


def _inline(html):
    # The text is escaped already: only tags of ours are put in.
    html = CODE_RE.sub(r"<code>\1</code>", str(html))
    return Markup(BOLD_RE.sub(r"<b>\1</b>", html))
