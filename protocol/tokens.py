"""Tokens: how an answer is limited to some, and how many a text is where nobody tells."""

import re

from ..const import DEFAULT_ANSWER_TOKENS
from .answer import Answer

#: The names under which services know the most tokens of an answer; all mean the same.
LIMIT_NAMES = ("max_tokens", "max_completion_tokens", "max_output_tokens")
#: No model writes more in one answer.
MOST_TOKENS = 1_000_000
#: Bytes of a text that are about one token.
TOKEN_BYTES = 4
#: As many tokens as a picture is about.
FILE_BYTES = 1000 * TOKEN_BYTES
_FILE = re.compile(r"data:[\w/+.;=-]{0,200},[\w+/=%-]*")
#: What a model is told of the records that it is given: messages and tools.
_TOLD_FIELDS = ("body", "body_json", "name", "description", "input_schema")
#: The arguments of a provider's `chat()` and `generate()` that its model reads.
GIVEN_NAMES = ("messages", "input_data", "prepend_messages", "tools")
#: The names that services give to what was used.
_KINDS = {
    "prompt": ("prompt_tokens", "input_tokens"),
    "completion": ("completion_tokens", "output_tokens"),
}
#: Parts of an answer that are about it, or repeat what was given.
_NOT_SAID = frozenset({
    *("error", "finish_reason", "inputs", "model_name", "provider", "role", "usage"),
})


def is_limit(value):
    """Return whether a value limits an answer: a whole number of tokens.

    >>> [is_limit(value) for value in (1, 0, -5, True, 2.5, "7", None, 10**9)]
    [True, False, False, False, False, False, False, False]
    """
    return type(value) is int and 0 < value <= MOST_TOKENS


def limited(kwargs, name, tokens):
    """Return the arguments of a chat with a limit; one of the caller's that is smaller stays.

    >>> limited({"max_completion_tokens": 9, "temperature": 0}, "max_tokens", 5)
    {'temperature': 0, 'max_tokens': 5}
    """
    asked = [kwargs[one] for one in LIMIT_NAMES if is_limit(kwargs.get(one))]
    rest = {key: value for key, value in kwargs.items() if key not in LIMIT_NAMES}
    return {**rest, name: min([tokens, *asked])}


def length_of(given):
    """Return the bytes of text in what a provider is given, or says.

    :param given: a text, JSON that holds texts, or records of messages or tools. A file that is
        written as a `data:` address counts no more than a picture costs.

    >>> length_of({"prompt": "Hé", "images": ["data:image/png;base64," + "A" * 10**6]})
    4003
    """
    if isinstance(given, str):
        size = len(given.encode("utf-8", "replace"))
        return min(size, FILE_BYTES) if _FILE.fullmatch(given) else size
    if isinstance(given, dict):
        return sum(map(length_of, given.values()))
    if isinstance(given, list | tuple):
        return sum(map(length_of, given))
    if hasattr(given, "_fields"):
        names = [name for name in _TOLD_FIELDS if name in given._fields]
        return sum(length_of(record[name]) for record in given for name in names)
    return 0


def by_length(size):
    """Return about how many tokens a text is, by its bytes.

    >>> [by_length(0), by_length(1), by_length(8)]
    [0, 1, 2]
    """
    return -(-size // TOKEN_BYTES)


def estimate(args, kwargs):
    """Return what a call of a provider with these arguments is expected to take.

    >>> estimate(["How are you?"], {"max_tokens": 100}), estimate([{"max_tokens": 7}], {})
    (103, 7)
    """
    given = args[0] if args else kwargs.get("input_data")
    inputs = given if isinstance(given, dict) else {}
    asked = [{**inputs, **kwargs}.get(name) for name in LIMIT_NAMES]
    answer = max(filter(is_limit, asked), default=DEFAULT_ANSWER_TOKENS)
    told = [kwargs.get(name) for name in GIVEN_NAMES if name != "tools"]
    return answer + by_length(length_of([args, *told]))


class Usage:
    """What one call of a provider used: as it tells, else by the length of what was said."""

    def __init__(self, *given):
        """Take what the provider is given, as `length_of()` does."""
        self._given = sum(map(length_of, given))
        self._said = 0
        #: Whether there is anything to show: words, or a tool to call.
        self.has_answer = False
        self._told = dict.fromkeys(_KINDS, 0)
        #: Whether the answer came to its end.
        self.is_whole = False

    def hear(self, said):
        """Take a chunk of the answer, or all of it."""
        if not isinstance(said, dict):
            return
        if isinstance(content := said.get("content"), tuple):  # of media: what was made, its files
            said = content[0] if content and isinstance(content[0], dict) else {}
        if isinstance(usage := said.get("usage"), dict):
            told = {
                f"{kind}_tokens": next((usage[name] for name in names if usage.get(name)), 0)
                for kind, names in _KINDS.items()
            }
            answer = Answer("running", usage={**usage, **told})
            self._told = {kind: answer.tokens(kind) or self._told[kind] for kind in _KINDS}
        content = said.get("content")
        words = content.strip() if isinstance(content, str) else content
        self.has_answer = self.has_answer or bool(words or said.get("tool_calls"))
        self._said += sum(length_of(said[name]) for name in said.keys() - _NOT_SAID)

    @property
    def is_known(self):
        """Whether anything was told or said."""
        return bool(self._said or any(self._told.values()))

    def tokens(self, kind):
        """Return the `prompt` or `completion` tokens, 0 where nothing is known."""
        if not self.is_known:
            return 0
        if kind == "prompt":
            return self._told[kind] or by_length(self._given)
        said = by_length(self._said)
        # Services that tell as they go tell little before the end.
        return self._told[kind] or said if self.is_whole else max(self._told[kind], said)
