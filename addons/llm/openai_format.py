"""Conversations and tools in the wire format of OpenAI, which most services understand."""

import json
import re
from collections import defaultdict

from markdownify import MarkdownConverter

from odoo.models import BaseModel

IMAGE_TYPES = ("image/gif", "image/jpeg", "image/png", "image/webp")
#: What a model is told of a tool that was interrupted.
LOST = "The tool was interrupted, and whether it did anything is not known."
#: What a person wrote with marks of their own stays as it is.
CONVERTER = MarkdownConverter(
    bullets="-",
    escape_asterisks=False,
    escape_misc=False,
    escape_underscores=False,
    heading_style="ATX",
)


def format_messages(messages, system_prompt=None, model=None):
    """Return role and content dicts of a conversation, in the order given.

    Messages without a role and error notices are left out. So are tool calls that were never
    answered and answers to no call: services refuse a conversation that has one.

    :param messages: ``mail.message`` recordset, or a list of dicts that is taken as it is
    :param model: ``llm.model`` record; a multimodal one also gets the attached images
    """
    formatted = [{"role": "system", "content": system_prompt}] if system_prompt else []
    if not isinstance(messages, BaseModel):
        return formatted + list(messages or [])
    messages = messages.filtered("llm_role")
    results = _results_by_turn(messages)
    for message in messages:
        if message.llm_role == "tool" or message.is_error:
            continue
        pairs = _answered_calls(message, results[message.id])
        content = _content(message, model)
        if pairs:
            formatted.append({
                "role": "assistant",
                "content": content or None,
                "tool_calls": [call for call, _result in pairs],
            })
            formatted += [_format_tool_result(call, result) for call, result in pairs]
        elif content:
            formatted.append({"role": message.llm_role, "content": content})
    return formatted


def format_tools(tools):
    """Return the function declarations of ``llm.tool`` records."""
    return [
        {
            "type": "function",
            "function": {
                "name": tool.name,
                "description": tool.description or "",
                "parameters": tool.input_schema or {"type": "object", "properties": {}},
            },
        }
        for tool in tools or []
    ]


def html_to_text(body):
    """Return what an HTML body says, with its structure and its indentation as Markdown."""
    if not body or not body.strip():
        return ""
    # The converter takes several spaces for one, as a browser does; people paste code.
    text = CONVERTER.convert(re.sub(r"(?<=[>\n\xa0 ]) ", "\xa0", str(body))).replace("\xa0", " ")
    lines = [line.rstrip() for line in text.split("\n")]
    return re.sub(r"\n{3,}", "\n\n", "\n".join(lines)).strip("\n")


def _data(message):
    """Return ``body_json`` when it is a dict: providers may store anything there."""
    data = message.body_json
    return data if isinstance(data, dict) else {}


def _tool_calls(message):
    if message.llm_role != "assistant":
        return []
    return [
        {
            "id": call["id"],
            "type": "function",
            "function": {
                "name": call["function"]["name"],
                "arguments": _as_text(call["function"].get("arguments") or "{}"),
            },
            **{name: call[name] for name in ("extra_content",) if name in call},
        }
        for call in _data(message).get("tool_calls") or []
    ]


def _results_by_turn(messages):
    """Return the results that follow each answer of the model, by its id."""
    results, turn = defaultdict(list), None
    for message in messages:
        if message.llm_role == "tool":
            results[turn].append(message)
        elif message.llm_role == "assistant" and not message.is_error:
            turn = message.id
    return results


def _answered_calls(message, results):
    """Return the calls of an answer that have a result, each with its own: ids may repeat."""
    left, pairs = list(results), []
    for call in _tool_calls(message):
        mine = [one for one in left if _data(one).get("tool_call_id") == call["id"]][:1]
        left = [one for one in left if one not in mine]
        pairs += [(call, result) for result in mine]
    return pairs


def _format_tool_result(call, message):
    data = _data(message)
    if data.get("error"):
        content = _as_text({"error": data["error"]})
    elif "result" in data:
        content = _as_text(data["result"])
    elif data.get("status") in {"requested", "executing"}:
        content = _as_text({"error": LOST})
    else:
        content = html_to_text(message.body)
    return {"role": "tool", "tool_call_id": call["id"], "content": content}


def _content(message, model):
    """Return the text, or with images a list of text and image parts."""
    text = html_to_text(message.body)
    if message.llm_role != "user" or not model or model.model_use != "multimodal":
        return text
    images = message.attachment_ids.filtered(
        lambda file: file.mimetype in IMAGE_TYPES and file.datas
    )
    if not images:
        return text
    parts = [{"type": "text", "text": text}] if text else []
    for image in images:
        url = f"data:{image.mimetype};base64,{image.datas.decode()}"
        parts.append({"type": "image_url", "image_url": {"url": url}})
    return parts


def _as_text(value):
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
