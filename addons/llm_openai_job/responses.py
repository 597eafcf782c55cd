"""The wire format of OpenAI's Responses; knows nothing of Odoo."""

#: Their states in the words of `check_generation_job_status()`. An incomplete one has ended, too:
#: `read_response()` tells whether well.
STATES = {
    "queued": "queued",
    "in_progress": "running",
    "completed": "completed",
    "incomplete": "completed",
    "failed": "failed",
    "cancelled": "cancelled",
}
#: What a job's inputs may say of a request: what shapes the answer. Nothing that names objects of
#: the account, as `previous_response_id` does, none of the tools that OpenAI runs by itself, and
#: nothing that is paid for apart.
PARAMETERS = frozenset({
    *("max_output_tokens", "reasoning", "temperature", "text", "top_logprobs", "top_p"),
    "truncation",
})
#: What is said of each request in the same way, whatever the inputs say, and the prompt.
OWN_PARAMETERS = frozenset({"background", "input", "model", "prompt", "store", "stream"})
#: Their error codes, and why an answer is incomplete, in the words of `ERROR_TYPES`.
ERROR_TYPES = {
    "rate_limit_exceeded": "rate_limited",
    "insufficient_quota": "quota",
    "server_error": "transient",
    "invalid_prompt": "content_refused",
    "content_filter": "content_refused",
    "image_content_policy_violation": "content_refused",
    "max_output_tokens": "bad_request",
    "context_length_exceeded": "content_refused",
    **dict.fromkeys(
        (
            *("empty_image_file", "failed_to_download_image", "image_file_not_found"),
            *("image_file_too_large", "image_parse_error", "image_too_large", "image_too_small"),
            *("invalid_base64_image", "invalid_image", "invalid_image_format"),
            *("invalid_image_mode", "invalid_image_url", "unsupported_image_media_type"),
        ),
        "bad_request",
    ),
}
#: Seconds until the next question, by state.
POLL_AFTER = {"queued": 5.0, "in_progress": 2.0}
#: Seconds that each window has in which an answer may come at a lower price, and until the next
#: question about an answer that has one.
WINDOWS = {"2h": 7200, "8h": 28800}
WINDOW_POLL = 60.0
#: Seconds for which a finished answer is kept at least.
KEPT = 600.0
#: The parts of a chat's messages, and what they are here: a text, an address, or an object.
PART_TYPES = {
    "text": "input_text",
    "image_url": "input_image",
    "file": "input_file",
    "input_audio": "input_audio",
}


#: Names that other interfaces have for the most tokens of an answer.
LIMIT_NAMES = ("max_tokens", "max_completion_tokens")


def with_limit(inputs):
    """Return the inputs with the most tokens of the answer under the name that Responses know."""
    limits = [inputs[name] for name in LIMIT_NAMES if name in inputs]
    rest = {name: value for name, value in inputs.items() if name not in LIMIT_NAMES}
    return {"max_output_tokens": limits[0], **rest} if limits else rest


def build_input(messages):
    """Return the items of a request that say what these chat messages say."""
    items = []
    for message in messages:
        if message["role"] == "tool":
            items.append({
                "type": "function_call_output",
                "call_id": message["tool_call_id"],
                "output": message["content"],
            })
            continue
        if message.get("content"):
            items.append({"role": message["role"], "content": _build_content(message)})
        for call in message.get("tool_calls") or ():
            items.append({
                "type": "function_call",
                "call_id": call["id"],
                "name": call["function"]["name"],
                "arguments": call["function"]["arguments"],
            })
    return items


def _build_content(message):
    content = message["content"]
    if isinstance(content, str):
        return content
    if message["role"] == "assistant":
        return [{"type": "output_text", "text": part["text"]} for part in content]
    return [_build_part(part) for part in content]


def _build_part(part):
    kind = part["type"]
    value = part[kind]
    if kind == "file":
        return {"type": PART_TYPES[kind], **value}
    return {"type": PART_TYPES[kind], kind: value["url"] if kind == "image_url" else value}


def read_text(response):
    """Return the text of an answer; a refusal is the answer, too."""
    return "".join(part.get("text") or part.get("refusal") or "" for part in _parts(response))


def _parts(response):
    return [
        part
        for item in response.get("output") or ()
        if item.get("type") == "message"
        for part in item.get("content") or ()
    ]


def read_response(response):
    """Return where a job stands, as `check_generation_job_status()` does, without the message."""
    status = response["status"]
    reason = (response.get("incomplete_details") or {}).get("reason")
    result = {
        "state": STATES[status],
        "finish_reason": _finish_reason(response, reason),
        "usage": read_usage(response),
        "poll_after": POLL_AFTER.get(status),
        "expires_in": KEPT,
    }
    if result["state"] == "completed" and not read_text(response):
        result["state"] = "failed"
    if result["state"] == "failed":
        error = response.get("error") or {}
        code = error.get("code") or reason
        result["error_type"] = ERROR_TYPES.get(code, "provider_failed")
        result["error_message"] = error.get("message") or (
            f"The answer is incomplete ({reason})." if reason else "The answer is empty."
        )
    return result


def _finish_reason(response, reason):
    """Return how an answer ended, as the queue has it; None for one that has not."""
    if any(part.get("refusal") for part in _parts(response)):
        return "refusal"
    return reason or ("stop" if response["status"] == "completed" else None)


def read_usage(response):
    usage = response.get("usage") or {}
    return {
        "prompt_tokens": usage.get("input_tokens") or 0,
        "completion_tokens": usage.get("output_tokens") or 0,
    }
