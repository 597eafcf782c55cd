"""From what the server says to what `llm.provider.chat()` promises."""

import json
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
        call["name"].append(function.get("name") or "")
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
        """Return the whole calls, in the server's order, each with an id."""
        return [
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


def _is_object(text):
    try:
        return isinstance(json.loads(text), dict)
    except (ValueError, RecursionError):
        return False


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
