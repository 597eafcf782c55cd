"""A thread that answers in the way of the public odoo-llm family, where the stand-in is better.

Its exceptions end as messages, its tools speak from within a savepoint, and its model gets the
newest messages of the thread, whatever question is answered. Where the real thing is installed, it
is what the tests run on.
"""

import json
from contextlib import ExitStack
from unittest.mock import patch


def play_family(test):
    """Have threads answer in the family's way until the end of a test."""
    thread_class = type(test.env["llm.thread"])
    if hasattr(thread_class, "_generate_assistant_response"):
        return
    stack = test.enterContext(ExitStack())
    for method in (generate_messages, _answer_or_say_why_not, _grow, _call_tool):
        stack.enter_context(patch.object(thread_class, method.__name__, method, create=True))


def generate_messages(self, last_message=None):
    """Yield the events of answers and tools, until an answer calls none."""
    last = last_message
    while last and (last.llm_role in {"user", "tool"} or calls_of(last)):
        if last.llm_role != "assistant":
            last = yield from self._answer_or_say_why_not()
            continue
        for call in calls_of(last):
            last = yield from self._call_tool(call)
            self.env.cr.commit()  # pylint: disable=invalid-commit
    return last  # noqa: B901 - to "yield from"


def _answer_or_say_why_not(self):
    chat = self.sudo().model_id.chat
    try:
        chunks = chat(messages=self.get_llm_messages(), stream=True, tools=self.tool_ids)
        return (yield from self._grow(chunks))
    except Exception as error:  # noqa: BLE001 as the family does
        message = self.message_post(
            body=f"It failed: {error}", llm_role="assistant", author_id=False, is_error=True
        )
        yield {"type": "message_create", "message": message.to_store_format()}
        return message  # noqa: B901 - to "yield from"


def _grow(self, chunks):
    message, text, calls = self.env["mail.message"], "", []
    for chunk in chunks:
        if chunk.get("error"):
            yield {"type": "error", "error": chunk["error"]}
            return message
        calls += chunk.get("tool_calls") or []
        text += chunk.get("content") or ""
        if text and not message:
            message = self.message_post(body="…", llm_role="assistant", author_id=False)
            yield {"type": "message_create", "message": message.to_store_format()}
        if chunk.get("content"):
            message.write({"body": self._process_llm_body(text)})
            yield {"type": "message_chunk", "message": message.to_store_format()}
    if calls and not message:
        message = self.message_post(body="", llm_role="assistant", author_id=False)
    if calls:
        message.body_json = {"tool_calls": calls}
        self.env.cr.commit()  # pylint: disable=invalid-commit
    if message:
        yield {"type": "message_update", "message": message.to_store_format()}
    return message  # noqa: B901 - to "yield from"


def _call_tool(self, call):
    name, arguments = call["function"]["name"], call["function"]["arguments"]
    data = {"tool_call_id": call["id"], "tool_name": name, "tool_call": call, "status": "requested"}
    message = self.message_post(body=name, body_json=data, llm_role="tool", author_id=False)
    yield {"type": "message_create", "message": message.to_store_format()}
    try:
        with self.env.cr.savepoint():
            tool = self.tool_ids.filtered(lambda one: one.name == name)
            result = tool.with_context(message=message).execute(json.loads(arguments))
            message.body_json = {**data, "status": "completed", "result": result}
            yield {"type": "tool_succeeded", "tool_data": message.body_json}
    except Exception as error:  # noqa: BLE001 as the family does
        message.body_json = {**data, "status": "error", "error": str(error)}
        yield {"type": "tool_failed", "tool_data": message.body_json}
    yield {"type": "message_update", "message": message.to_store_format()}
    return message  # noqa: B901 - to "yield from"


def calls_of(message):
    """Return the tools that an answer calls."""
    data = message.body_json if message.llm_role == "assistant" else None
    return (data or {}).get("tool_calls") or []
