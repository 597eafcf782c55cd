"""What fal's queue says, in the words of `check_generation_job_status()`."""

import re
from collections import deque

from odoo.addons.llm_generate_job.protocol.sanitize import DEPTH

STATES = {"IN_QUEUE": "queued", "IN_PROGRESS": "running", "COMPLETED": "completed"}
#: fal's error types in the words of `ERROR_TYPES`; any other is the provider's failure.
ERROR_TYPES = {
    "request_timeout": "transient",
    "internal_error": "transient",
    "startup_timeout": "overloaded",
    "runner_scheduling_failure": "overloaded",
    "runner_connection_timeout": "overloaded",
    "runner_connection_refused": "overloaded",
    "runner_connection_error": "overloaded",
    "runner_disconnected": "overloaded",
    "runner_incomplete_response": "overloaded",
    "runner_server_error": "overloaded",
    "client_disconnected": "cancelled",
    "client_cancelled": "cancelled",
    "bad_request": "bad_request",
    "not_found": "bad_request",
    "url_error": "bad_request",
    "auth_error": "authentication",
    "content_policy_violation": "content_refused",
}
#: Seconds for which a result of 10 KB and more is kept; smaller ones are kept for an hour.
KEPT = 360.0
#: Seconds at most until the next question about a job that waits there.
LONGEST_WAIT = 30.0
PERCENT_RE = re.compile(r"(\d{1,3}(?:\.\d+)?)\s?%")
#: Where models that write text put it.
TEXT_KEYS = ("output", "text", "caption", "answer")


def read_status(status):
    """Return where a job stands, without its message."""
    state = STATES[status["status"]]
    result = {"state": state, "expires_in": KEPT}
    position = status.get("queue_position")
    if state == "queued" and isinstance(position, int):
        result["poll_after"] = min(LONGEST_WAIT, 1.0 + position)
    elif state == "running":
        result["progress"] = read_progress(status.get("logs"))
    if state == "completed" and status.get("error"):
        error_type = ERROR_TYPES.get(status.get("error_type"), "provider_failed")
        result["state"] = "cancelled" if error_type == "cancelled" else "failed"
        result |= {"error_type": error_type, "error_message": str(status["error"])}
    return result


def read_progress(logs):
    """Return the last percentage that the model's log tells, None where it tells none.

    >>> read_progress([{"message": " 40%|####  | 4/10"}, {"message": "almost"}])
    40.0
    """
    for entry in reversed(logs if isinstance(logs, list) else []):
        found = PERCENT_RE.findall(str(entry.get("message") if isinstance(entry, dict) else entry))
        if found:
            return min(100.0, float(found[-1]))
    return None


def find_files(output):
    """Return the objects with a `url` in an output, in its order, each address once."""
    files, seen, todo = [], set(), deque([output])
    while todo:
        value = todo.popleft()
        if isinstance(value, dict):
            url = value.get("url")
            if isinstance(url, str) and url not in seen:
                seen.add(url)
                files.append(value)
            todo += value.values()
        elif isinstance(value, list):
            todo += value
    return files


def read_text(output):
    """Return the text of an output, empty where it has none."""
    return next((output[key] for key in TEXT_KEYS if isinstance(output.get(key), str)), "")


def without_data(output, depth=DEPTH):
    """Return an output without the files that it holds inline, and without what is too deep."""
    if isinstance(output, dict | list) and not depth:
        return "[…]"
    if isinstance(output, dict):
        return {key: without_data(value, depth - 1) for key, value in output.items()}
    if isinstance(output, list):
        return [without_data(value, depth - 1) for value in output]
    if isinstance(output, str) and output.startswith("data:"):
        return output.partition(",")[0]
    return output
