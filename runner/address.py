"""What becomes part of an address: names and ids, which users and providers choose."""

from urllib.parse import quote

from ..exceptions import BadRequestError

REFUSED = "“%s” cannot be part of an address. Correct the name of the model, or the id of the job."


def segment(text):
    """Return a text as one segment of a path.

    >>> segment("../files?x")
    '..%2Ffiles%3Fx'

    :raise BadRequestError: for one that leads elsewhere even when it is quoted
    """
    text = str(text)
    if text in {"", ".", ".."}:
        raise BadRequestError(REFUSED % text)
    return quote(text, safe="")


def path(text):
    """Return a text that has segments, such as `owner/app`, as a path.

    >>> path("/fal-ai/flux 1/")
    'fal-ai/flux%201'

    :raise BadRequestError: see `segment()`
    """
    return "/".join(segment(part) for part in text.strip("/").split("/"))
