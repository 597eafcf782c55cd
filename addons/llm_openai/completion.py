"""From what the server says to what `llm.provider.chat()` promises."""

import json
import uuid

#: What an answer used, as servers call it.
COUNTS = ("prompt_tokens", "completion_tokens", "total_tokens")
#: Tool calls of one answer.
MOST_CALLS = 128


def choices_of(body):
    """Return the choices of an answer or a chunk, without what is none."""
    choices = body.get("choices")
    return [one for one in choices if isinstance(one, dict)] if isinstance(choices, list) else []


def parse_completion(body):
    """Return `{"content", "tool_calls", "usage", "finish_reason"}`, the last three where told."""
    result = {"content": ""}
    for chunk in parse_stream([{**body, "choices": choices_of(body)[:1]}]):
        result["content"] += chunk.pop("content", "")
        result |= chunk
    return result


def parse_usage(body):
    """Return the token counts of an answer or a chunk, None where it has none.

    Gemini and xAI count what a model thinks in the total alone.
    """
    usage = body.get("usage")
    if not usage or not isinstance(usage, dict):
        return None
    told = {key: usage[key] for key in COUNTS if usage.get(key)}
    return {"prompt_tokens": 0, "completion_tokens": 0, **told}


def text_of(content):
    """Return the text of a content, which may be a list of parts."""
    if isinstance(content, list):
        return "".join(map(text_of, content))
    if isinstance(content, dict):
        return text_of(content.get("text") or content.get("refusal"))
    return content if isinstance(content, str) else ""


class ToolCalls:
    """Puts the pieces of streamed tool calls together: once, as adding each to the last is slow."""

    def __init__(self):
        self._calls = []
        #: By index, or by id where a server sends no index; None is the last one.
        self._open = {}

    def add(self, delta):
        """Take one entry of a delta's `tool_calls`; calls beyond a limit are left out."""
        function, call_id = delta.get("function") or {}, str(delta.get("id") or "")
        given = function.get("arguments")
        arguments = json.dumps(given) if isinstance(given, dict) else given or ""
        index = delta.get("index")
        place = index if isinstance(index, int) else call_id or None
        call = self._open.get(place)
        if call is None or self._is_another(call, call_id, function.get("name")):
            call = {"id": "", "name": [], "arguments": [], "is_whole": _is_object(arguments)}
            call["extra"] = {}
            if len(self._calls) < MOST_CALLS:
                self._calls.append(call)
        self._open[place] = self._open[None] = call
        call["id"] = call_id or call["id"]
        name = function.get("name") or ""
        if name and call["name"] != [name]:  # some servers send the whole of it each time
            call["name"].append(name)
        call["arguments"].append(arguments)
        if delta.get("extra_content"):  # Gemini refuses a call that comes back without it
            call["extra"] = {"extra_content": delta["extra_content"]}

    @staticmethod
    def _is_another(call, call_id, name):
        """Tell whether the place of a call is taken by the next one.

        Gemini sends each call whole, and all of them under index 0, with or without an id.
        """
        is_renamed = call_id and call["id"] and call_id != call["id"]
        return bool(name and (is_renamed or call["is_whole"]))

    def finish(self):
        """Return the whole calls, in the server's order, each with an id.

        One that a server repeats at the end of its stream, or under a second index, is one.
        """
        calls = [
            {
                "id": call["id"] or f"call_{uuid.uuid4().hex[:12]}",
                "type": "function",
                "function": {
                    "name": "".join(call["name"]),
                    "arguments": "".join(call["arguments"]) or "{}",
                },
                **call["extra"],
            }
            for call in self._calls
        ]
        return list({(call["id"], *call["function"].values()): call for call in calls}.values())


def _is_object(text):
    try:
        return isinstance(json.loads(text), dict)
    except (ValueError, RecursionError):
        return False


def parse_stream(events):
    """Yield the chunks of a streamed answer."""
    calls, reason, half = ToolCalls(), None, ""
    for event in events:
        for choice in choices_of(event):
            delta = choice.get("delta") or choice.get("message") or {}
            refusal = text_of(delta.get("refusal"))
            text, half = whole_characters(half + text_of(delta.get("content")) + refusal)
            if text:
                yield {"content": text}
            for index, call in enumerate(delta.get("tool_calls") or ()):
                calls.add({**call, "index": index} if "message" in choice else call)
            if reason != "refusal":
                reason = "refusal" if refusal else choice.get("finish_reason") or reason
        if usage := parse_usage(event):
            yield {"usage": usage}
    if tool_calls := calls.finish():
        yield {"tool_calls": tool_calls}
    if reason:
        yield {"finish_reason": reason}


def whole_characters(text):
    """Return a text without the half of a character at its end, and that half.

    JSON writes an emoji as two, which some servers send in two events.
    """
    end = len(text) - ("\ud800" <= text[-1:] <= "\udbff")
    whole, half = text[:end], text[end:]
    return whole.encode("utf-16", "surrogatepass").decode("utf-16", "replace"), half
