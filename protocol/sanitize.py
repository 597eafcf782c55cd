"""What comes from providers, and may be anything: made fit to be kept, told and shown."""

import contextlib
import json
import math
import re
import sys
import uuid
from functools import partial

HIDDEN = "[hidden]"
#: Characters of a key at least: replacing a shorter one would garble the sentence.
SHORTEST_KEY = 6
#: Levels of JSON. Odoo copies what it reads level by level, and Python ends at some hundreds.
DEPTH = 100
#: Digits of a number, fewer than Python refuses to write.
DIGITS = 1000
#: Characters of a text about an error that are looked at.
LONGEST_ERROR = 20_000

#: What neither PostgreSQL nor an HTML parser takes.
_UNPRINTABLE = dict.fromkeys([*range(9), 11, 12, *range(14, 32), 0xFFFE, 0xFFFF])
#: Marks that let a text run backwards, and so look like another.
_BIDIRECTIONAL = dict.fromkeys([*range(0x202A, 0x202F), *range(0x2066, 0x206A)])
#: Lone halves of characters.
_SURROGATES = re.compile(r"[\ud800-\udfff]")
#: Anything that looks like a credential, so that no provider's error text spreads one.
_SECRET = re.compile(
    r"(?i)\b(?:sk-|(?:r8|ghp|gho|whsec|glpat|github_pat|xox[abprs])[-_])[\w*.-]{6,}"
    r"|\b(?P<word>(?:sk|pk|rk|fal|key|gsk|xai|hf)[-_][\w*.-]{6,})"
    r"|bearer\s+(?!tokens?\b)\S+"
    r"|\bAIza[\w-]{10,}"
    r"|\b(?:AKIA|ASIA)[0-9A-Z]{16}\b"
    r"|\beyJ[\w-]{8,4000}\.[\w-]{8,4000}(?:\.[\w-]{0,4000})?"
    r"|(?<=://)[^/\s:@]{0,400}:[^/\s@]{1,400}@"
)
#: What a word that begins as one has in it if it is one: letters and digits in a row, a long row,
#: or stars in the place of some. Names in code (`fal_ai_…`, `hf_hub_download`) and codes of errors
#: (`key_model_access_denied`) begin so, too.
_RANDOM = re.compile(r"\*|(?=[A-Za-z]{0,5}\d)[A-Za-z0-9]{6,}|[A-Za-z0-9]{20,}")
#: A name after which a credential comes; of bare words only where nothing but `=` can follow.
_NAMED = re.compile(
    r"(?i)(\bauthorization[\"']?\s{0,9}[:=]\s{0,9}[\"']?(?:(?:basic|digest|key|token)\s{1,9})?"
    r"|(?:api[-_ ]?key|access[-_]?key|access[-_]?token|auth[-_]?token|client[-_]?secret"
    r"|secret[-_]?access[-_]?key)[\"']?\s{0,9}[:=]\s{0,9}[\"']?"
    r"|(?:key|token|secret|password|passwd|signature|\bsig)=)"
    r"(?!\[hidden\])[^&\s\"',;}]+"
)
#: The secret part of the address that a provider was given for its webhooks.
_WEBHOOK = re.compile(r"(/llm_generate_job/webhook/\d{1,20}/)[\w-]+")
#: Names under which a provider's JSON keeps credentials.
_SECRET_NAME = re.compile(
    r"(?i)^(?:x-)?(?:authorization|(?:\w{1,30}[-_])?api[-_]?key|password|client[-_]?secret)$"
)
_BEARER = re.compile(r"(?i)\b(?:bearer|basic)\s+[\w+/=.~-]{8,}")


def sanitize_text(text, *, one_way=False):
    """Return `text` as PostgreSQL and HTML can hold it; markup stays markup.

    :param bool one_way: also without the marks that turn the direction of writing

    >>> sanitize_text("a\\x00b\\ud800c")
    'ab?c'
    """
    text = text.translate(_UNPRINTABLE | _BIDIRECTIONAL if one_way else _UNPRINTABLE)
    if not _SURROGATES.search(text):
        return text
    whole = text.encode("utf-16", "surrogatepass").decode("utf-16", "surrogatepass")
    return text.__class__(_SURROGATES.sub("?", whole))


def redact_key(text, key):
    """Return `text` without a credential, and without its beginning where the text was cut."""
    if not key or len(key) < SHORTEST_KEY:
        return text
    text = text.replace(key, HIDDEN)
    cut = tail_of(text, key)
    return text[:-cut] + HIDDEN if cut >= SHORTEST_KEY else text


def tail_of(text, key):
    """Return how many characters at the end of `text` may be the beginning of `key`."""
    sizes = range(min(len(text), len(key) - 1), 0, -1)
    return next((size for size in sizes if text.endswith(key[:size])), 0)


def text_of(value):
    """Return a value as text; one that is too deep, or too large a number, by its kind."""
    try:
        return str(value)
    except (RecursionError, ValueError):
        return f"({type(value).__name__})"


def _hide(match):
    word = match["word"]
    return HIDDEN if word is None or _RANDOM.search(word) else word


def redact(text, key=""):
    """Return a text about an error without what looks like a credential, fit to be shown.

    :param str key: a credential that looks like none, hidden if it is long enough to be one

    >>> redact("Incorrect API key provided: sk-abcdefgh12345678.")
    'Incorrect API key provided: [hidden]'
    """
    text = redact_key(sanitize_text(text_of(text)[:LONGEST_ERROR], one_way=True), key)
    text = _WEBHOOK.sub(rf"\1{HIDDEN}", _SECRET.sub(_hide, text))
    return _NAMED.sub(rf"\1{HIDDEN}", text)


def sanitize_json(value, key="", *, hides_names=False, depth=DEPTH):
    """Return JSON as PostgreSQL can hold it: what it cannot is replaced or left out.

    Values that are none of JSON stay as they are.

    :param str key: a credential that is hidden wherever it stands
    :param bool hides_names: hide what stands under the name of a credential, too

    >>> sanitize_json({"a": float("nan"), "b": ["x\\x00", {"api_key": "k"}]}, hides_names=True)
    {'a': None, 'b': ['x', {'api_key': '[hidden]'}]}
    """
    if isinstance(value, str):
        text = redact_key(sanitize_text(value), key)
        return _BEARER.sub(HIDDEN, text) if hides_names else text
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, int):
        return value if abs(value) < 10**DIGITS else None
    if not isinstance(value, dict | list | tuple):
        return value
    if not depth:
        return "[…]"
    deeper = partial(sanitize_json, key=key, hides_names=hides_names, depth=depth - 1)
    if not isinstance(value, dict):
        return [deeper(one) for one in value]
    return {
        sanitize_json(str(name), key): HIDDEN
        if hides_names and isinstance(one, str) and _SECRET_NAME.match(str(name))
        else deeper(one)
        for name, one in value.items()
    }


def can_be_stored(value):
    """Return whether JSON can be kept as it is, as a person's own input should be."""
    level = [value]
    for _level in range(DEPTH + 2):
        if not all(map(_is_storable_leaf, level)):
            return False
        deeper = []
        for one in level:
            if isinstance(one, dict):
                deeper += [*one.keys(), *one.values()]
            elif isinstance(one, list | tuple):
                deeper += one
        if not deeper:
            return True
        level = deeper
    return False


def _is_storable_leaf(value):
    if isinstance(value, str):
        return "\x00" not in value and not _SURROGATES.search(value)
    if isinstance(value, float):
        return math.isfinite(value)
    return not isinstance(value, int) or abs(value) < 10**DIGITS


# === WHAT A SERVICE SAYS IN A CHAT ===

#: Characters of an answer; no model writes that much, and what comes after is left out.
ANSWER_LIMIT = 1_000_000
#: Bytes of JSON that a provider has kept; more is left out.
DATA_LIMIT = 1_000_000
#: Characters of the tool calls of an answer as JSON, and of a value that a tool returns.
CALLS_LIMIT = 500_000
#: Characters of the name and of the id of a call that is too long.
LONGEST_NAME = 200
CUT = "\n\n[…]"
#: What stands for arguments that are too long: JSON, but no object, so that a tool refuses it and
#: the model hears why.
NO_ARGUMENTS = '"[…]"'


def redact_error(error, key):
    """Take the credentials out of an exception whose text people are shown."""
    error.args = tuple(redact(arg, key) if isinstance(arg, str) else arg for arg in error.args)
    # Some libraries keep what they say elsewhere: those of Mistral, Ollama, Replicate and fal.
    for name, value in list(vars(error).items()):
        if isinstance(value, str):
            with contextlib.suppress(AttributeError, TypeError):
                setattr(error, name, redact(value, key))


def sanitize_answer(answer, key_of):
    """Return an answer without what nobody can keep, and without the provider's key.

    :param answer: a dict, or the generator of the chunks of a stream; all else stays as it is
    :param key_of: function that returns the key, once it was used
    """
    if hasattr(answer, "__next__"):
        return Chunks(answer, key_of).run()
    if not isinstance(answer, dict):
        return answer
    answer = sanitize_json(answer, key_of())
    if answer.get("tool_calls"):
        answer["tool_calls"], _left = bound_calls(answer["tool_calls"], CALLS_LIMIT, set())
    return answer


def sanitize_body(body, key):
    """Return the body of a message as it can be kept, without the provider's key."""
    if not isinstance(body, str):
        return body or ""
    text = redact_key(sanitize_text(body), key)
    return text if len(text) <= ANSWER_LIMIT else text[:ANSWER_LIMIT] + CUT


def sanitize_body_json(data, key, *, shortened=False):
    """Return the structured body of a message as it can be kept, without the provider's key.

    One that is too large is left out.

    :param bool shortened: cut its long values first, to texts; for the results of tools
    """
    data = sanitize_json(data, key)
    if shortened and isinstance(data, dict) and _size(data) > CALLS_LIMIT:
        data = {name: _shortened(value) for name, value in data.items()}
    return None if data and _size(data) > DATA_LIMIT else data


def _shortened(value):
    text = value if isinstance(value, str) else json.dumps(value, default=str)
    # A character takes up to twelve in JSON, and a result has three values that can be long.
    most = CALLS_LIMIT // 20
    return value if len(text) <= most else text[:most] + CUT


def _size(data):
    return len(json.dumps(data, default=str))


def bound_calls(calls, left, taken):
    """Return the tool calls of an answer that can be kept, and the characters left for others.

    Of the first that is too long the arguments are left out, and all that come after it. Each has
    an id that no other has, as its result is found by it, and its arguments as a text.

    :param int left: characters of JSON for them
    :param set taken: the ids of the calls before, to which theirs are added
    """
    if not isinstance(calls, list):
        return [], left
    kept = []
    for call in calls:
        if left <= 0 or not isinstance(call, dict):
            continue
        call = _of_its_own(call, taken)
        size = _size(call)
        if size > left:
            name = call["function"]["name"][:LONGEST_NAME]
            call = {
                "id": call["id"][:LONGEST_NAME],
                "type": "function",
                "function": {"name": name, "arguments": NO_ARGUMENTS},
            }
            left = 0
        else:
            left -= size
        kept.append(call)
    return kept, left


def _of_its_own(call, taken):
    call_id = str(call.get("id") or "")
    if not call_id or call_id in taken:
        call_id = uuid.uuid4().hex[:9]  # Mistral takes nine letters and digits, and no others
    taken.add(call_id)
    function = call.get("function") if isinstance(call.get("function"), dict) else {}
    given = function.get("arguments")
    arguments = given if isinstance(given, str) else json.dumps(given or {}, default=str)
    name = str(function.get("name") or "")
    function = {**function, "name": name, "arguments": arguments or "{}"}
    return {**call, "id": call_id, "function": function}


class Chunks:
    """The chunks of a stream. A key that comes in pieces is hidden, too."""

    def __init__(self, chunks, key_of):
        self.chunks, self.key_of = chunks, key_of
        self.key, self.held, self.half, self.size = "", "", "", 0
        self.calls_left, self.call_ids = CALLS_LIMIT, set()

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
            redact_error(error, self.key or self.key_of())
            raise
        finally:
            if hasattr(self.chunks, "close"):
                self.chunks.close()
        if self.held:
            yield {"content": self.held}

    def _raise_what_was_caught(self):
        """Raise the exception that the service's code caught, and told as an error.

        Its text would be all that is left of it, and nobody could tell a limit that was reached
        from a broken connection. The generator still handles it where it yields: whatever is
        thrown into it there has it as context.
        """
        if not hasattr(self.chunks, "throw"):
            return
        probe, outer = GeneratorExit(), sys.exc_info()[1]
        with contextlib.suppress(GeneratorExit, Exception):  # which its clean-up may raise
            self.chunks.throw(probe)
        caught = probe.__context__
        if isinstance(caught, Exception) and caught is not outer:
            raise caught

    def _cleaned(self, chunk):
        rest = {name: value for name, value in chunk.items() if name not in {"content", "error"}}
        cleaned = sanitize_json(rest, self.key)
        if cleaned.get("tool_calls"):
            cleaned["tool_calls"], self.calls_left = bound_calls(
                cleaned["tool_calls"], self.calls_left, self.call_ids
            )
        if chunk.get("error"):
            self._raise_what_was_caught()
            cleaned["error"] = redact(chunk["error"], self.key)
        if content := chunk.get("content"):
            cleaned["content"] = self._say(content) if isinstance(content, str) else content
        return cleaned

    def _say(self, text):
        """Return what may be said now: the beginning of a key waits for what follows."""
        text = self.half + text
        cut = len(text) - ("\ud800" <= text[-1:] <= "\udbff")
        text, self.half = text[:cut], text[cut:]  # an emoji may come in two events
        text, self.held = self.held + sanitize_text(text), ""
        if len(self.key) >= SHORTEST_KEY:
            text = text.replace(self.key, HIDDEN)
            start = len(text) - tail_of(text, self.key)
            text, self.held = text[:start], text[start:]
        left = max(0, ANSWER_LIMIT - self.size)
        self.size += len(text)
        return text[:left]
