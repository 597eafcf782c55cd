import json
from datetime import UTC, datetime

from odoo.addons.llm_generate_job.tests import contract_batch
from odoo.addons.llm_generate_job.tests.contract_batch import USAGE, FakeBatches
from odoo.addons.llm_generate_job.tests.fake_http import FakeHttpService, Reply, json_reply

API_KEY = "sk-ant-canary-key-0123456789abcdef"
PATH = "/v1/messages/batches"
#: What became of a request in Anthropic's words.
TYPES = {
    contract_batch.REFUSED: "invalid_request_error",
    contract_batch.FAILED: "api_error",
    contract_batch.UNDONE: "canceled",
    contract_batch.EXPIRED: "expired",
}


def error_of(kind, text="It went wrong."):
    return {"type": "error", "error": {"type": kind, "message": text}}


class FakeAnthropic(FakeBatches, FakeHttpService):
    """A server with `/messages/batches`, as Anthropic documents it: no batch has a name there."""

    def reset(self):  # pylint: disable=missing-return
        super().reset()
        self.params = []

    def answer(self, request):
        if request.headers.get("x-api-key") != API_KEY:
            return json_reply(error_of("authentication_error"), 401)
        if not request.headers.get("anthropic-version"):
            return json_reply(error_of("invalid_request_error"), 400)
        batch_id, _slash, verb = request.path.removeprefix(PATH).strip("/").partition("/")
        if batch_id and batch_id not in self.batches:
            return json_reply(error_of("not_found_error"), 404)
        if request.method == "POST":
            return self.cancel(batch_id) if verb == "cancel" else self.begin(request)
        if request.method == "DELETE":
            self.deleted.add(batch_id)
            return json_reply({"id": batch_id, "type": "message_batch_deleted"})
        if verb == "results":
            return self.results(batch_id)
        return json_reply(self.shown(batch_id)) if batch_id else self.list(request)

    def begin(self, request):
        asked = request.json["requests"]
        ids = {one["custom_id"] for one in asked}
        if len(ids) < len(asked) or any(len(one) > 64 for one in ids):
            return json_reply(error_of("invalid_request_error"), 400)
        self.params += [one["params"] for one in asked]
        requests = [
            (one["custom_id"], one["params"]["messages"][-1]["content"].strip()) for one in asked
        ]
        return json_reply(self.shown(self.take(requests)))

    def cancel(self, batch_id):
        batch = self.batches[batch_id]
        if batch["state"] != "running":
            return json_reply(error_of("invalid_request_error"), 400)
        batch["state"] = "cancelled"
        return json_reply({**self.shown(batch_id), "processing_status": "canceling"})

    def list(self, request):
        # Newest first, one on a page, whatever the limit says.
        ids = [*reversed(self.batches)]
        begin = ids.index(request.query["after_id"]) + 1 if "after_id" in request.query else 0
        page = ids[begin : begin + 1]
        return json_reply({
            "data": [self.shown(one) for one in page],
            "has_more": len(ids) > begin + 1,
            "last_id": page[-1] if page else None,
        })

    def shown(self, batch_id):
        batch = self.batches[batch_id]
        over = batch["state"] != "running"
        total = len(batch["requests"])
        counts = {"processing": 0 if over else total, "succeeded": total if over else 0}
        return {
            "id": batch_id,
            "type": "message_batch",
            "processing_status": "ended" if over else "in_progress",
            "request_counts": {**counts, "errored": 0, "canceled": 0, "expired": 0},
            "created_at": datetime.now(UTC).isoformat().replace("+00:00", "Z"),
            "archived_at": None,
            "results_url": f"{self.url}{PATH}/{batch_id}/results" if over else None,
        }

    def results(self, batch_id):
        batch = self.batches[batch_id]
        lines = [
            {"custom_id": custom_id, "result": self.result(self.outcome(batch, prompt), prompt)}
            for custom_id, prompt in reversed(batch["requests"])
        ]
        return Reply(200, "\n".join(map(json.dumps, lines)).encode(), "application/x-jsonl")

    def result(self, outcome, prompt):
        kind = TYPES.get(outcome)
        if not kind:
            content = [
                {"type": "thinking", "thinking": "Well…"},
                {"type": "text", "text": f"{self.text} "},
                {"type": "text", "text": prompt},
            ]
            usage = {
                "input_tokens": USAGE["prompt_tokens"] - 4,
                "cache_read_input_tokens": 4,
                "output_tokens": USAGE["completion_tokens"],
            }
            told = {"content": content, "stop_reason": "end_turn", "usage": usage}
            return {"type": "succeeded", "message": told}
        return {"type": "errored", "error": error_of(kind)} if "_" in kind else {"type": kind}
