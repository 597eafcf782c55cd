"""The wire format of OpenAI's Batch; knows nothing of Odoo."""

import json
from datetime import UTC, datetime

from odoo.addons.llm_generate_job.exceptions import UnreadableAnswerError
from odoo.addons.llm_generate_job.protocol.http_errors import error_of, no_answer

from . import responses

#: By this name a batch has its key among its metadata, by which it is found again.
KEY = "llm_generation_key"
#: What each request of a batch asks: by chat, or by background jobs.
CHAT, RESPONSES = "/v1/chat/completions", "/v1/responses"
#: Bytes that a batch may have which tells its results itself.
LIMIT = 100_000_000
#: Their states, in the words of `check_generation_batch()`.
STATES = {
    "validating": "running",
    "in_progress": "running",
    "finalizing": "running",
    "cancelling": "running",
    "completed": "ended",
    "expired": "ended",
    "cancelled": "ended",
    "failed": "failed",
}
#: Codes of requests that were not done.
UNDONE = {"batch_expired", "batch_cancelled"}
STRANGE = "The provider answered a request of a batch with something else than a response."
#: Why a batch was not begun, in the words of `ERROR_TYPES`: the account has too much in others.
ERROR_TYPES = {"token_limit_exceeded": "rate_limited"}


def build_file(requests_by_id):
    """Return the bytes of the file that says what a batch asks."""
    lines = (
        {"custom_id": custom_id, "method": "POST", **request}
        for custom_id, request in requests_by_id.items()
    )
    return b"".join(json.dumps(line).encode() + b"\n" for line in lines)


def build_inline(requests_by_id):
    """Return what a batch asks of a server that takes no files: of one model.

    It reads the model before the requests.
    """
    bodies = {custom_id: request["body"] for custom_id, request in requests_by_id.items()}
    model = next(iter(bodies.values()))["model"]
    asked = [
        {"custom_id": custom_id, "body": {k: v for k, v in body.items() if k != "model"}}
        for custom_id, body in bodies.items()
    ]
    return {"model": model, "requests": asked}


def is_unnamed(batch):
    """Return whether a batch came without a file, and so without our key."""
    return "metadata" not in batch and not batch.get("input_file_id")


def created_at(batch):
    """Return when a batch was made, in UTC; now where it does not say."""
    told = batch.get("created_at")
    moment = datetime.fromtimestamp(told, UTC) if isinstance(told, int) else datetime.now(UTC)
    return moment.replace(tzinfo=None)


def read_batch(batch):
    """Return where a batch stands, as `check_generation_batch()` does, without the results."""
    counts = batch.get("request_counts") or {}
    told = {
        "state": STATES[batch["status"]],
        "done": (counts.get("completed") or 0) + (counts.get("failed") or 0),
        "number": counts.get("total") or 0,
    }
    if told["state"] == "failed":
        error = next(iter((batch.get("errors") or {}).get("data") or ()), batch.get("error") or {})
        told["error_type"] = ERROR_TYPES.get(error.get("code"), "bad_request")
        told["error_message"] = error.get("message") or "The provider did not accept the batch."
    return told


def read_line(line):
    """Return `(custom_id, result)` of a line of the output, or of the errors."""
    custom_id = line.get("custom_id") if isinstance(line, dict) else None
    try:
        return custom_id, _read_result(line)
    except (AttributeError, IndexError, KeyError, TypeError, ValueError):
        return custom_id, {"state": "failed", "error": UnreadableAnswerError(STRANGE)}


def _read_result(line):
    error, response = line.get("error") or {}, line.get("response") or {}
    if error.get("code") in UNDONE:
        return {"state": "cancelled"}
    body, status = response.get("body") or {}, response.get("status_code")
    if not isinstance(body, dict):
        body = {"error": body}
    if status != 200:
        return {"state": "failed", "error": error_of(status or 500, body or {"error": error})}
    if body.get("status") in responses.STATES:
        return {**responses.read_response(body), "text": responses.read_text(body)}
    if body.get("error") or "choices" not in body:
        return {"state": "failed", "error": no_answer(body, STRANGE)}
    return _read_completion(body)


def _read_completion(body):
    choice = next(iter(body.get("choices") or ()), {})
    message = choice.get("message") or {}
    refusal = message.get("refusal")
    return {
        "state": "completed",
        "text": message.get("content") or refusal or "",
        "finish_reason": "refusal" if refusal else choice.get("finish_reason"),
        "usage": body.get("usage"),
    }
