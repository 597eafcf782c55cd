"""From what people and models write to HTML, and back where there is nothing but HTML."""

import re
from html import escape
from urllib.parse import urlsplit

from lxml import html
from markdown_it import MarkdownIt
from markdownify import MarkdownConverter
from markupsafe import Markup

#: Characters and brackets of a text that is read as Markdown: to pair the brackets of a longer one
#: takes seconds, and nobody reads it.
LONGEST, MOST_BRACKETS = 100_000, 5000
#: Characters of HTML whose structure is told.
LONGEST_HTML = 200_000
#: Addresses from which a picture is shown. Any other would tell whoever made the model write it
#: what the address says, as soon as the answer is seen, or have the reader's browser open a page
#: of this server, such as that which logs out: it becomes a link.
_OWN_FILE = re.compile(r"data:image/|/web/(?:content|image)/(?![^?#]*(?:\.\.|%2e|%5c|\\))", re.I)
#: Stars that multiply: within a word of letters they may emphasize.
_ARITHMETIC = re.compile(r"(?<=[0-9])\*+(?=[0-9A-Za-z])|(?<=[A-Za-z])\*+(?=[0-9])")


class Rendered(Markup):
    """HTML that knows the text it was made of."""

    source = None


def markdown_to_html(text, *, pictures_but_of=None):
    """Return the Markdown of a model as HTML; tags in it are shown as they are written.

    Each block of it finds its own direction of writing.

    :param pictures_but_of: the hosts of this server, where pictures of all others are shown; None
        shows those of no other

    >>> markdown_to_html("`2**3` <b>").source
    '`2**3` <b>'
    >>> markdown_to_html("`2**3` <b>")
    Rendered('<p dir="auto"><code>2**3</code> &lt;b&gt;</p>')
    """
    if len(text) > LONGEST or text.count("[") > MOST_BRACKETS:
        rendered = Rendered(f'<div style="white-space: pre-wrap">{escape(text)}</div>')
    else:
        rendered = Rendered(_MARKDOWN.render(text, {"but_of": pictures_but_of}).strip())
    rendered.source = text
    return rendered


def _adapt(state):
    for token in state.tokens:
        if token.nesting == 1 and not token.level:
            token.attrSet("dir", "auto")
        if token.type == "table_open":
            token.attrSet("class", "table table-sm table-bordered w-auto")
        for child in token.children or ():
            if child.type == "link_open":
                child.attrSet("target", "_blank")
                child.attrSet("rel", "noreferrer noopener")


def _keep_arithmetic(state, silent):
    if not (found := _ARITHMETIC.match(state.src, state.pos)):
        return False
    if not silent:
        state.pending += found[0]
    state.pos = found.end()
    return True


def _render_image(renderer, tokens, idx, options, env):
    token = tokens[idx]
    address = token.attrs.get("src") or ""
    if _OWN_FILE.match(address) or _is_elsewhere(address, env["but_of"]):
        return renderer.image(tokens, idx, options, env)
    name = renderer.renderInlineAsText(token.children, options, env) or address
    link = '<a href="%s" target="_blank" rel="noreferrer noopener">%s</a>'
    return link % (escape(address), escape(name))


def _is_elsewhere(address, hosts):
    if hosts is None or not address.startswith(("http://", "https://")):
        return False
    try:
        return urlsplit(address).hostname not in hosts
    except ValueError:  # it is none
        return False


_MARKDOWN = MarkdownIt("js-default", {"html": False, "breaks": True})
_MARKDOWN.core.ruler.push("adapt", _adapt)
_MARKDOWN.inline.ruler.before("emphasis", "arithmetic", _keep_arithmetic)
_MARKDOWN.add_render_rule("image", _render_image)


#: What a person wrote with marks of their own stays as it is.
_CONVERTER = MarkdownConverter(
    bullets="-",
    escape_asterisks=False,
    escape_misc=False,
    escape_underscores=False,
    heading_style="ATX",
)


def html_to_text(body):
    """Return what HTML says, with its structure and its indentation as Markdown.

    >>> html_to_text("<p>a<!-- -->b<br>  2**3</p><ul><li>one</li></ul>")
    'ab\\n  2**3\\n\\n- one'
    """
    body = str(body or "").strip()
    if not body:
        return ""
    if "<" not in body:  # what was posted as text
        return html.fromstring(f"<pre>{body}</pre>").text_content()
    # The converter takes several spaces for one, as a browser does; people paste code.
    spaced = re.sub(r"(?<=[>\n\xa0 ]) ", "\xa0", body)
    try:
        text = _CONVERTER.convert(spaced) if len(body) <= LONGEST_HTML else None
    except RecursionError:
        text = None
    if text is None:
        parser = html.HTMLParser(huge_tree=True)
        root = html.fragment_fromstring(body, create_parent="div", parser=parser)
        text = "\n".join(root.xpath(".//text()"))
    lines = text.replace("\xa0", " ").split("\n")
    return re.sub(r"\n{3,}", "\n\n", "\n".join(line.rstrip() for line in lines)).strip("\n")


def place_of(mark, number):
    """Return a word that stands for a text until `put_texts()`; nobody changes a word."""
    return f"{mark}n{number}z"


def put_texts(value, mark, texts):
    """Return JSON with the texts in their places.

    :param str mark: that of the places
    :param dict texts: by number

    >>> put_texts([{"a": "x " + place_of("mark", 7)}], "mark", {7: "  2**3"})
    [{'a': 'x   2**3'}]
    """
    if isinstance(value, str):
        place = re.compile(rf"{mark}n(\d+)z")
        return place.sub(lambda found: texts[int(found[1])], value) if mark in value else value
    if isinstance(value, dict):
        return {name: put_texts(one, mark, texts) for name, one in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(put_texts(one, mark, texts) for one in value)
    return value
