"""What a service says in a chat, made fit to be kept while it is said."""

import json

from .untrusted import (
    HIDDEN,
    SHORTEST_KEY,
    printable,
    scrub,
    storable,
    tail_of,
    without,
)

#: Characters of an answer; no model writes that much, and what comes after is left out.
ANSWER_LIMIT = 1_000_000
#: Bytes of JSON that a provider has kept; more is left out.
DATA_LIMIT = 1_000_000
CUT = "\n\n[…]"


def disarm(error, key):
    """Take the credentials out of an exception whose text people are shown."""
    error.args = tuple(scrub(arg, key) if isinstance(arg, str) else arg for arg in error.args)


def guard(answer, key_of):
    """Return an answer without what nobody can keep, and without the provider's key.

    :param answer: a dict, or the generator of the chunks of a stream; all else stays as it is
    :param key_of: function that returns the key, once it was used
    """
    if hasattr(answer, "__next__"):
        return Chunks(answer, key_of).run()
    return storable(answer, key_of()) if isinstance(answer, dict) else answer


def said(body, key):
    """Return the body of a message as it can be kept, without the provider's key."""
    if not isinstance(body, str):
        return body or ""
    text = without(printable(body), key)
    return text if len(text) <= ANSWER_LIMIT else text[:ANSWER_LIMIT] + CUT


def said_json(data, key, *, bounded):
    """Return the structured body of a message as it can be kept, without the provider's key.

    :param bool bounded: leave out one that is too large
    """
    data = storable(data, key)
    return None if bounded and data and len(json.dumps(data, default=str)) > DATA_LIMIT else data


class Chunks:
    """The chunks of a stream. A key that comes in pieces is hidden, too."""

    def __init__(self, chunks, key_of):
        self.chunks, self.key_of = chunks, key_of
        self.key, self.held, self.size = "", "", 0

    def run(self):
        """Yield the chunks; an answer without end is cut."""
        try:
            for chunk in self.chunks:
                self.key = self.key or self.key_of()
                yield self._cleaned(chunk) if isinstance(chunk, dict) else chunk
                if self.size > ANSWER_LIMIT:
                    yield {"content": CUT}
                    return
        except Exception as error:
            disarm(error, self.key or self.key_of())
            raise
        finally:
            if hasattr(self.chunks, "close"):
                self.chunks.close()
        if self.held:
            yield {"content": self.held}

    def _cleaned(self, chunk):
        rest = {name: value for name, value in chunk.items() if name not in {"content", "error"}}
        cleaned = storable(rest, self.key)
        if chunk.get("error"):
            cleaned["error"] = scrub(chunk["error"], self.key)
        if content := chunk.get("content"):
            cleaned["content"] = self._say(content) if isinstance(content, str) else content
        return cleaned

    def _say(self, text):
        """Return what may be said now: the beginning of a key waits for what follows."""
        text, self.held = self.held + printable(text), ""
        if len(self.key) >= SHORTEST_KEY:
            text = text.replace(self.key, HIDDEN)
            start = len(text) - tail_of(text, self.key)
            text, self.held = text[:start], text[start:]
        left = max(0, ANSWER_LIMIT - self.size)
        self.size += len(text)
        return text[:left]
