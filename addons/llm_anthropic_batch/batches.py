"""The wire format of Anthropic's Message Batches; knows nothing of Odoo."""

from datetime import UTC, datetime

from odoo.addons.llm_generate_job.exceptions import UnreadableAnswerError
from odoo.addons.llm_generate_job.protocol.http_errors import error_of

#: Their states, in the words of `check_generation_batch()`.
STATES = {"in_progress": "running", "canceling": "running", "ended": "ended"}
#: Tokens of an answer at most where nobody says: the service wants to be told.
MAX_TOKENS = 4096
#: The status that each of their errors has over HTTP.
STATUSES = {
    "invalid_request_error": 400,
    "authentication_error": 401,
    "billing_error": 402,
    "permission_error": 403,
    "not_found_error": 404,
    "request_too_large": 413,
    "rate_limit_error": 429,
    "api_error": 500,
    "timeout_error": 504,
    "overloaded_error": 529,
}
#: Results of requests that were not done.
UNDONE = {"canceled", "expired"}
STRANGE = "The provider answered with something else than a message."


def build_params(model, messages, **parameters):
    """Return what a request asks: what chats call a system message is a parameter here."""
    system = [_text_of(one["content"]) for one in messages if one["role"] == "system"]
    return {
        "model": model,
        "max_tokens": MAX_TOKENS,
        **parameters,
        **({"system": "\n\n".join(system)} if system else {}),
        "messages": [one for one in messages if one["role"] != "system"],
    }


def _text_of(content):
    if isinstance(content, str):
        return content
    return "".join(part.get("text") or "" for part in content or () if isinstance(part, dict))


def count_of(batch):
    """Return how many requests a batch has."""
    return sum(counts for counts in (batch.get("request_counts") or {}).values())


def created_at(batch):
    """Return when a batch was made, in UTC; None where it does not say."""
    try:
        moment = datetime.fromisoformat(batch.get("created_at") or "")
    except ValueError:
        return None
    return moment.astimezone(UTC).replace(tzinfo=None)


def read_batch(batch):
    """Return where a batch stands, as `check_generation_batch()` does, without the results."""
    waiting = (batch.get("request_counts") or {}).get("processing") or 0
    return {"state": STATES[batch["processing_status"]], "done": count_of(batch) - waiting}


def read_line(line):
    """Return `(custom_id, result)` of a line of the results."""
    custom_id = line.get("custom_id") if isinstance(line, dict) else None
    try:
        return custom_id, _read_result(line["result"])
    except (AttributeError, IndexError, KeyError, TypeError, ValueError):
        return custom_id, {"state": "failed", "error": UnreadableAnswerError(STRANGE)}


def _read_result(result):
    kind, message = result.get("type"), result.get("message") or {}
    if kind in UNDONE:
        return {"state": "cancelled"}
    if kind != "succeeded":
        told = result["error"]
        status = STATUSES.get(told["error"].get("type"), 500)
        return {"state": "failed", "error": error_of(status, told)}
    usage = message.get("usage") or {}
    # What was read from a cache, or written there, is asked, too.
    asked = ("input_tokens", "cache_creation_input_tokens", "cache_read_input_tokens")
    return {
        "state": "completed",
        "text": _text_of(message.get("content")),
        "finish_reason": message.get("stop_reason"),
        "usage": {
            "prompt_tokens": sum(usage.get(name) or 0 for name in asked),
            "completion_tokens": usage.get("output_tokens") or 0,
        },
    }
