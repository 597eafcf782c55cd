"""Batches of Gemini, where Google's compatible endpoint leaves them to Google's own interface.

The endpoint begins a batch of a file whose lines are OpenAI's, which has no metadata there
(ai.google.dev/gemini-api/docs/openai, "Batch API"). Files go to the root of the host, take a name
from the client, and are deleted after 48 hours (ai.google.dev/api/files). There are the list of
batches, each with its file, and their state, end and deletion, too (ai.google.dev/api/batch-api). A
batch expires after 48 hours, without results (ai.google.dev/gemini-api/docs/batch-api).

Knows nothing of Odoo.
"""

import hashlib
import json
import re
from datetime import datetime

from odoo.addons.llm_generate_job.protocol.bounded_http import segment

#: What ids and names begin with, or not.
BATCHES, FILES = "batches/", "files/"
#: What a page of the list may have: an empty one has nothing. `unreachable` would be left out.
PAGE = {"operations", "nextPageToken"}
#: What is over, in OpenAI's words: guides write `JOB_STATE_…` where the API has `BATCH_STATE_…`.
ENDS = {
    "SUCCEEDED": "completed",
    "FAILED": "failed",
    "CANCELLED": "cancelled",
    "EXPIRED": "expired",
}
TOO_MANY = "The provider has too many batches to find one among them. Delete old ones there."


def root_of(api_base):
    """Return the root of the host where an address is that of Google's endpoint, else None.

    It ends with `/v1beta/openai` at whatever host; that of Azure ends with `/openai/v1`.
    """
    found = re.fullmatch(r"(.+)/v1beta/openai/*", api_base or "")
    return found and found[1]


def id_of(told):
    """Return the id of a batch, which may come as its name."""
    return told.removeprefix(BATCHES) if isinstance(told, str) else told


def batch_path(batch_id):
    """Return where a batch is, by its id or its name."""
    return f"v1beta/batches/{segment(id_of(batch_id))}"


def file_path(name):
    """Return where a file is."""
    return f"v1beta/files/{segment(str(name).removeprefix(FILES))}"


def file_name(key, content, tries):
    """Return what the file of a batch is called, in 40 characters: no more are allowed.

    By the key, which is of 32 hexadecimal digits, its batch is found again. Another content has
    another name, as jobs may have left the batch since; and so has another try: of an upload that
    broke off the name may be taken, without a file (googleapis/python-genai 913).
    """
    return f"{FILES}{key}-{hashlib.sha256(b'%d %s' % (tries, content)).hexdigest()[:7]}"


def is_named(batch, key):
    """Return whether a batch is that of a key, by the name of its file."""
    return key in str(batch.get("input_file_id"))


def build_upload(name, content):
    """Return the arguments of the one request that uploads a file under a name."""
    boundary = hashlib.sha256(content).hexdigest()  # no content has its own
    head = json.dumps({"file": {"name": name, "displayName": name}}).encode()
    parts = ((b"application/json", head), (b"application/jsonl", content))
    edge = b"--" + boundary.encode()
    body = b"".join(b"%s\r\nContent-Type: %s\r\n\r\n%s\r\n" % (edge, *part) for part in parts)
    headers = {
        "X-Goog-Upload-Protocol": "multipart",
        "Content-Type": f"multipart/related; boundary={boundary}",
    }
    params = {"uploadType": "multipart"}
    return {"params": params, "headers": headers, "data": body + edge + b"--\r\n"}


def has_no_file(operation):
    """Return whether a batch was begun without a file, as ours never are."""
    told = operation.get("metadata") or {}
    return "requests" in (told.get("inputConfig") or {}) or any(
        "inlinedResponses" in (output or {})
        for output in (operation.get("response"), told.get("output"))
    )


def read_operation(operation):
    """Return a batch of Google as OpenAI has one."""
    told = operation.get("metadata") or {}
    counts = told.get("batchStats") or {}
    results = [  # guides read the former
        output["responsesFile"]
        for output in (operation.get("response"), told.get("output"))
        if output and output.get("responsesFile")
    ]
    status = ENDS.get(str(told.get("state")).rpartition("STATE_")[2], "in_progress")
    if status == "in_progress" and operation.get("done") and operation.get("error"):
        status = "failed"
    return {
        "id": id_of(operation.get("name")),
        # The results may come a little later than the state.
        "status": "finalizing" if status == "completed" and not results else status,
        "created_at": _seconds(told.get("createTime")),
        "request_counts": {
            "total": _number(counts.get("requestCount")),
            "completed": _number(counts.get("successfulRequestCount")),
            "failed": _number(counts.get("failedRequestCount")),
        },
        "input_file_id": (told.get("inputConfig") or {}).get("fileName"),
        "output_file_id": next(iter(results), None),
        "error": operation.get("error"),
    }


def _number(told):
    """Return a number, which JSON of Google has as text."""
    return int(told) if str(told).isdecimal() else 0


def _seconds(told):
    try:
        return int(datetime.fromisoformat(told).timestamp())
    except (TypeError, ValueError):
        return None
