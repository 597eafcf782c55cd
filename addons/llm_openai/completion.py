"""From what the server says to what `llm.provider.chat()` promises."""

import uuid

#: Tool calls of one answer.
MOST_CALLS = 128
CONTENT_FILTER = "The provider refuses this content (content_filter)."


def parse_completion(body):
    """Return `{"content", "tool_calls", "usage"}` of a whole answer, the last two where present."""
    choice = (body.get("choices") or [{}])[0]
    message = choice.get("message") or {}
    result = {"content": message.get("content") or ""}
    if message.get("tool_calls"):
        calls = ToolCalls()
        for index, call in enumerate(message["tool_calls"]):
            calls.add({**call, "index": index})
        result["tool_calls"] = calls.finish()
    if usage := parse_usage(body):
        result["usage"] = usage
    return result


def parse_usage(body):
    """Return the token counts of an answer or a chunk, None where it has none."""
    usage = body.get("usage")
    if not usage:
        return None
    return {key: usage.get(key) or 0 for key in ("prompt_tokens", "completion_tokens")}


def is_refused(body):
    """Tell whether a filter of the provider stopped an answer before its first word."""
    choice = (body.get("choices") or [{}])[0]
    return choice.get("finish_reason") == "content_filter"


class ToolCalls:
    """Puts the pieces of streamed tool calls together: once, as adding each to the last is slow."""

    def __init__(self):
        self._calls = {}

    def add(self, delta):
        """Take one entry of a delta's `tool_calls`; calls beyond a limit are left out."""
        function = delta.get("function") or {}
        key = self._key(delta)
        if key not in self._calls and len(self._calls) >= MOST_CALLS:
            return
        call = self._calls.setdefault(key, {"id": "", "name": [], "arguments": []})
        call["id"] = delta.get("id") or call["id"]
        call["name"].append(function.get("name") or "")
        call["arguments"].append(function.get("arguments") or "")

    def _key(self, delta):
        # Some servers send no index: a new id is a new call, none continues the last one.
        if delta.get("index") is not None:
            return delta["index"]
        known = [key for key, call in self._calls.items() if call["id"] == delta.get("id")]
        if known:
            return known[0]
        return len(self._calls) if delta.get("id") or not self._calls else max(self._calls)

    def finish(self):
        """Return the whole calls, in the server's order, each with an id."""
        return [
            {
                "id": call["id"] or f"call_{uuid.uuid4().hex[:12]}",
                "type": "function",
                "function": {
                    "name": "".join(call["name"]),
                    "arguments": "".join(call["arguments"]) or "{}",
                },
            }
            for call in self._calls.values()
        ]


def parse_stream(events):
    """Yield the chunks of a streamed answer."""
    calls, said = ToolCalls(), False
    for event in events:
        if event.get("error"):
            yield {"error": event["error"]}
            return
        for choice in event.get("choices") or ():
            delta = choice.get("delta") or choice.get("message") or {}
            if delta.get("content"):
                said = True
                yield {"content": delta["content"]}
            for call in delta.get("tool_calls") or ():
                calls.add(call)
        if not said and is_refused(event):
            yield {"error": CONTENT_FILTER}
            return
        if usage := parse_usage(event):
            yield {"usage": usage}
    if tool_calls := calls.finish():
        yield {"tool_calls": tool_calls}
