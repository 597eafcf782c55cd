import json
import re
import time
from datetime import UTC, datetime
from email.parser import BytesParser

from odoo.addons.llm_generate_job.tests import contract_batch
from odoo.addons.llm_generate_job.tests.contract_batch import USAGE, FakeBatches
from odoo.addons.llm_generate_job.tests.fake_http import FakeHttpService, Reply, half, json_reply

from .common import API_KEY, response

#: Their states, by those of the contract.
STATUS = {"running": "in_progress", "ended": "completed"}
ERRORS = {
    contract_batch.UNDONE: "batch_cancelled",
    contract_batch.EXPIRED: "batch_expired",
}
GOOGLE_STATES = {"ended": "SUCCEEDED"}
STATUSES = {contract_batch.REFUSED: 400, contract_batch.FAILED: 500}


def upload_of(request):
    """Return the fields of a form with files, as bytes by name."""
    head = f"Content-Type: {request.headers['content-type']}\r\n\r\n".encode()
    parts = BytesParser().parsebytes(head + request.body).get_payload()
    return {
        part.get_param("name", header="content-disposition"): part.get_payload(decode=True)
        for part in parts
    }


def prompt_of(line):
    """Return the question of a line, whatever it asks."""
    body = line["body"]
    return (body.get("messages") or body["input"])[-1]["content"].strip()


class FakeOpenAIBatches(FakeBatches, FakeHttpService):
    """A server with `/files` and `/batches`, as OpenAI documents them."""

    def reset(self):  # pylint: disable=missing-return
        super().reset()
        self.files, self.lines = {}, []

    def lose_reply(self):
        self.fault(None, half)  # not that to the file

    def answer(self, request):
        if request.headers.get("authorization") != f"Bearer {API_KEY}":
            return json_reply({"error": {"message": "No key.", "code": "invalid_api_key"}}, 401)
        _empty, _version, kind, *rest = request.path.split("/")
        return getattr(self, f"{request.method.lower()}_{kind}")(request, *rest)

    def post_files(self, request):
        form = upload_of(request)
        if form["purpose"] != b"batch":
            return json_reply({"error": {"message": "For what?"}}, 400)
        file_id = f"file-{len(self.files) + 1}"
        self.files[file_id] = form["file"]
        return json_reply({"id": file_id, "object": "file", "purpose": "batch"})

    def post_batches(self, request, batch_id=None, verb=None):
        if verb == "cancel":
            batch = self.batches.get(batch_id)
            if batch and batch["state"] == "running":
                batch["state"] = "cancelled"
                return json_reply(self.shown(batch_id))
            return json_reply({"error": {"message": "It has ended."}}, 409)
        asked = request.json
        lines = [json.loads(line) for line in self.files[asked["input_file_id"]].splitlines()]
        urls = {(line["url"], line["method"], line["body"]["model"]) for line in lines}
        ids = {line["custom_id"] for line in lines}
        if len(urls) > 1 or len(ids) < len(lines) or asked["completion_window"] != "24h":
            return json_reply({"error": {"message": "One address, one model, one id each."}}, 400)
        if any(line["url"] != asked["endpoint"] for line in lines):
            return json_reply({"error": {"message": "Another address."}}, 400)
        self.lines += lines
        requests = [(line["custom_id"], prompt_of(line)) for line in lines]
        batch_id = self.take(requests, asked.get("metadata", {}).get("llm_generation_key"))
        self.batches[batch_id] |= {"endpoint": asked["endpoint"], "file": asked["input_file_id"]}
        return json_reply(self.shown(batch_id))

    def get_batches(self, request, batch_id=None):
        if batch_id:
            if batch_id not in self.batches:
                return json_reply({"error": {"message": "No such batch."}}, 404)
            return json_reply(self.shown(batch_id))
        # Newest first, two on a page, whatever the limit says.
        ids = [*reversed(self.batches)]
        begin = ids.index(request.query["after"]) + 1 if "after" in request.query else 0
        shown = [self.shown(one) for one in ids[begin : begin + 1]]
        return json_reply({"object": "list", "data": shown, "has_more": len(ids) > begin + 1})

    def shown(self, batch_id):
        batch = self.batches[batch_id]
        failed = batch["state"] == "failed"
        over = batch["state"] in {"ended", "cancelled"}
        total = len(batch["requests"])
        return {
            "id": batch_id,
            "object": "batch",
            "status": STATUS.get(batch["state"], batch["state"]),
            "metadata": {"llm_generation_key": batch["key"]} if batch["key"] else None,
            "request_counts": {"total": total, "completed": total * over, "failed": 0},
            "input_file_id": batch.get("file"),
            "output_file_id": f"output-{batch_id}" if over else None,
            "error_file_id": f"errors-{batch_id}" if over else None,
            "errors": {"data": [{"code": "bad", "message": "Not so."}]} if failed else None,
        }

    def delete_files(self, _request, file_id):
        self.deleted.add(file_id)
        return json_reply({"id": file_id, "object": "file", "deleted": True})

    def kept(self, batch_id):
        """Return the files of a batch that nobody has deleted."""
        shown = self.shown(batch_id)
        names = ("input_file_id", "output_file_id", "error_file_id")
        return {shown[name] for name in names if shown[name]} - self.deleted

    def get_files(self, _request, file_id, _content):
        kind, batch_id = file_id.split("-", 1)
        batch = self.batches[batch_id]
        lines = []
        for custom_id, prompt in reversed(batch["requests"]):
            outcome = self.outcome(batch, prompt)
            if (outcome == "Answered") == (kind == "output"):
                lines.append({"custom_id": custom_id, **self.line(batch, outcome, prompt)})
        text = "\n".join(map(json.dumps, lines))
        return Reply(200, text.encode(), "application/octet-stream")

    def line(self, batch, outcome, prompt):
        if code := ERRORS.get(outcome):
            return {"response": None, "error": {"code": code, "message": "Not done."}}
        if status := STATUSES.get(outcome):
            body = {"error": {"message": "It went wrong.", "code": None}}
            return {"response": {"status_code": status, "body": body}, "error": None}
        text = f"{self.text} {prompt}"
        if batch.get("endpoint") == "/v1/responses":
            usage = {"input_tokens": USAGE["prompt_tokens"],
                     "output_tokens": USAGE["completion_tokens"]}  # fmt: skip
            body = response("completed", text, usage=usage)
        else:
            message = {"role": "assistant", "content": text, "refusal": None}
            choice = {"index": 0, "message": message, "finish_reason": "stop"}
            body = {"choices": [choice], "usage": {**USAGE, "total_tokens": 14}}
        return {"response": {"status_code": 200, "body": body}, "error": None}


class FakeOpenRouter(FakeOpenAIBatches):
    """A server that takes no files: the requests come with the batch, and the results go with it.

    No batch has a name there, and none is stopped.
    """

    def lose_reply(self):
        self.fault(None, half)  # not that to the file, which there is none of

    def post_files(self, _request):
        return json_reply({"error": {"message": "Not found.", "code": 404}}, 404)

    get_files = delete_files = None

    def post_batches(self, request, batch_id=None, verb=None):
        if verb:
            return json_reply({"error": {"message": "Not found.", "code": 404}}, 404)
        asked = request.json
        names = list(asked)
        is_known = names.index("requests") > max(names.index("model"), names.index("endpoint"))
        ids = {one["custom_id"] for one in asked["requests"]}
        odd = any("model" in one["body"] or len(one) > 2 for one in asked["requests"])
        if not is_known or odd or len(ids) < len(asked["requests"]):
            return json_reply({"error": {"message": "One model before all.", "code": 400}}, 400)
        self.lines += asked["requests"]
        batch_id = self.take([(one["custom_id"], prompt_of(one)) for one in asked["requests"]])
        self.batches[batch_id] |= {"endpoint": asked["endpoint"], "made": int(time.time())}
        return json_reply(self.shown(batch_id), 202)

    def get_batches(self, request, batch_id=None):
        reply = super().get_batches(request, batch_id)
        if not batch_id:
            return reply
        return json_reply({**self.shown(batch_id), "results": self.results(batch_id)})

    def delete_batches(self, _request, batch_id):
        self.deleted.add(batch_id)
        return json_reply({"id": batch_id, "deleted": True})

    kept = FakeBatches.kept

    def shown(self, batch_id):
        shown, batch = super().shown(batch_id), self.batches[batch_id]
        names = ("id", "object", "status", "request_counts")
        is_failed = batch["state"] == "failed"
        return {
            **{name: shown[name] for name in names},
            "created_at": batch.get("made", int(time.time())),
            "error": {"message": "Not so."} if is_failed else None,
            "results": None,
        }

    def results(self, batch_id):
        batch = self.batches[batch_id]
        if batch["state"] not in {"ended", "cancelled"}:
            return None
        return [
            {"custom_id": custom_id, **self.line(batch, self.outcome(batch, prompt), prompt)}
            for custom_id, prompt in reversed(batch["requests"])
        ]


class FakeGemini(FakeOpenAIBatches):
    """A server as Google's, whose compatible endpoint begins batches: all else is at its root.

    What ends by itself has a file with all that was answered; what was cancelled has none.
    """

    #: Batches on a page of the list, and whether these say of which file they are.
    page, tells_file = 1, True
    ROUTES = (
        ("POST", "/upload/v1beta/files", "upload"),
        ("POST", "/v1beta/openai/batches", "post_batches"),
        ("GET", "/v1beta/batches", "operations"),
        ("GET", "/v1beta/batches/([^/:]+)", "operation"),
        ("POST", "/v1beta/batches/([^/:]+):cancel", "cancel"),
        ("DELETE", "/v1beta/((?:batches|files)/[^/:]+)", "delete"),
        ("GET", "/download/v1beta/(files/[^/:]+):download", "download"),
    )

    def answer(self, request):
        is_compatible = request.path.startswith("/v1beta/openai/")
        name = "authorization" if is_compatible else "x-goog-api-key"
        if request.headers.get(name) != "Bearer " * is_compatible + API_KEY:
            return self.refused(401, "UNAUTHENTICATED")
        for method, path, work in self.ROUTES:
            found = re.fullmatch(path, request.path)
            if found and method == request.method:
                return getattr(self, work)(request, *found.groups())
        return self.refused(404, "NOT_FOUND")

    @staticmethod
    def refused(status, code):
        error = {"code": status, "message": f"No: {code}.", "status": code}
        return json_reply({"error": error}, status)

    def upload(self, request):
        told = f"Content-Type: {request.headers['content-type']}\r\n\r\n".encode()
        message = BytesParser().parsebytes(told + request.body)
        head, content = message.get_payload()
        asked = json.loads(head.get_payload(decode=True))["file"]
        protocol = request.headers.get("x-goog-upload-protocol")
        is_name = re.fullmatch(r"files/(?!-)[a-z0-9-]{1,40}(?<!-)", asked["name"])
        kind = message.get_content_type()
        protocols = {protocol, request.query.get("uploadType")}
        if protocols != {"multipart"} or kind != "multipart/related" or not is_name:
            return self.refused(400, "INVALID_ARGUMENT")
        if asked["name"] in self.files:
            return self.refused(409, "ALREADY_EXISTS")
        self.files[asked["name"]] = content.get_payload(decode=True)
        return json_reply({"file": {"name": asked["name"], "state": "ACTIVE"}})

    def post_batches(self, request, batch_id=None, verb=None):
        if request.json.keys() != {"input_file_id", "endpoint", "completion_window"}:
            return self.refused(400, "INVALID_ARGUMENT")
        reply = super().post_batches(request)
        if reply.status == 200:
            batch_id = [*self.batches][-1]
            return json_reply({
                "id": f"batches/{batch_id}",
                "object": "batch",
                "status": "validating",
            })
        return reply

    def operations(self, request):
        begin = int(request.query.get("pageToken", "0"))
        ids = [*self.batches][begin : begin + self.page]
        if not ids:
            return json_reply({})
        more = begin + len(ids) < len(self.batches)
        told = {"nextPageToken": str(begin + len(ids))} if more else {}
        return json_reply({"operations": [self.shown(one) for one in ids], **told})

    def operation(self, _request, batch_id):
        if batch_id not in self.batches or f"batches/{batch_id}" in self.deleted:
            return self.refused(404, "NOT_FOUND")
        return json_reply(self.shown(batch_id))

    def shown(self, batch_id):
        batch = self.batches[batch_id]
        state = GOOGLE_STATES.get(batch["state"], batch["state"].upper())
        file = batch.get("file", f"files/of-{batch_id}")
        told = {
            "state": f"BATCH_STATE_{state}",
            "createTime": datetime.now(UTC).isoformat(),
            "batchStats": {"requestCount": str(len(batch["requests"]))},
        }
        if self.tells_file:
            told["inputConfig"] = {"fileName": file}
        if batch["state"] == "ended":
            told["output"] = {"responsesFile": f"files/results-{batch_id}"}
        failed = {"error": {"code": 3, "message": "Not so."}} if batch["state"] == "failed" else {}
        return {"name": f"batches/{batch_id}", "metadata": told, **failed}

    def cancel(self, _request, batch_id):
        batch = self.batches.get(batch_id)
        if not batch or batch["state"] != "running":
            return self.refused(400, "FAILED_PRECONDITION")
        batch["state"] = "cancelled"
        return json_reply({})

    def delete(self, _request, name):
        self.deleted.add(name)
        return json_reply({})

    def kept(self, batch_id):
        file = self.batches[batch_id]["file"]
        return {f"batches/{batch_id}", f"files/results-{batch_id}", file} - self.deleted

    def download(self, request, name):
        batch = self.batches[name.removeprefix("files/results-")]
        lines = []
        for custom_id, prompt in reversed(batch["requests"]):
            outcome = self.outcome(batch, prompt)
            if outcome not in ERRORS:
                lines.append({"custom_id": custom_id, **self.line(batch, outcome, prompt)})
        if request.query != {"alt": "media"}:
            return self.refused(400, "INVALID_ARGUMENT")
        return Reply(200, "\n".join(map(json.dumps, lines)).encode(), "application/octet-stream")
