import re

import requests

from odoo import api, fields, models
from odoo.exceptions import UserError

from odoo.addons.llm_generate_job.exceptions import (
    BadRequestError,
    NoJobInterfaceError,
    OverloadedError,
    ProviderFailedError,
)
from odoo.addons.llm_generate_job.protocol.bounded_http import (
    request_json,
    request_lines,
    segment,
)
from odoo.addons.llm_generate_job.protocol.http_errors import no_answer

from .. import batches, google_batches, responses

DEFAULT_API_BASE = "https://api.openai.com/v1"
#: Seconds: for the connection, and without a byte.
CONNECT_TIMEOUT = 10
READ_TIMEOUT = 120
GONE = "The provider no longer has the answer; it keeps one for about ten minutes."
STRANGE = "The provider answered with something else than a response."
NO_BATCH = "The provider answered with something else than a batch."
#: Batches on a page of their list, and pages that are looked at.
PAGE, PAGES = 100, 50
JOB_METHODS = (
    "create_generation_job",
    "check_generation_job_status",
    "cancel_generation_job",
)


class LlmProvider(models.Model):
    """Runs chats as background jobs of OpenAI, where the provider is set so."""

    _inherit = "llm.provider"

    use_background_jobs = fields.Boolean(
        "Run as Background Jobs",
        help="The server runs generations by itself and is asked for the answer. It needs the"
        " interface “responses” with background mode, as OpenAI's own has.",
    )
    background_window = fields.Selection(
        [("2h", "Within 2 Hours, 30% Cheaper"), ("8h", "Within 8 Hours, 40% Cheaper")],
        "What Runs When Idle",
        help="How long the answers of single jobs that run when idle may take. Each takes a slot as"
        " long, and the timeout of the queue has to allow it: where it is shorter, they are"
        " answered as soon as possible. In a batch they cost half.",
    )

    @api.model
    def _implements(self, method):
        if self.service == "openai" and method in JOB_METHODS and not self.use_background_jobs:
            return False
        return super()._implements(method)

    @api.private
    def openai_create_generation_job(self, job_record):
        """Submit a job.

        :raise NoJobInterfaceError: where the mode is off, or does not do what the job needs
        """
        if not self._openai_runs_job(job_record):
            raise NoJobInterfaceError(self.service)
        inputs = job_record.generation_inputs or {}
        messages = self._openai_job_messages(job_record, inputs.get("prompt"))
        response = self._openai_response(
            "POST",
            "responses",
            {
                **self._openai_job_parameters(responses.with_limit(inputs)),
                "model": job_record.model_id.name,
                "input": responses.build_input(messages),
                "background": True,
                "store": True,
                "stream": False,
                **self._openai_window(job_record),
            },
        )
        # Now that nobody is waited for: a prompt without a message becomes one.
        job_record._put_question()
        return response.get("id")

    def _openai_window(self, job):
        """Return the parameters of a request that say how long its answer may take."""
        window = self.background_window
        # Only `llm_generate_job_batch` knows of jobs that can wait.
        if not (window and hasattr(job, "_can_wait") and job._can_wait(responses.WINDOWS[window])):
            return {}
        # sudo: how long a job may take does not depend on what its owner may read.
        queue = self.env["llm.generation.queue"]._get_or_create_queue(self).sudo()
        if 0 < queue.job_timeout < responses.WINDOWS[window]:
            return {}
        return {"background_options": {"completion_window": window}}

    def _openai_job_parameters(self, inputs):
        """Return the parameters of a request that a job's inputs have.

        :raise BadRequestError: for those that are none of a user
        """
        # What is in here but not in there is ours to say, whatever the inputs say of it.
        parameters = {
            name: value for name, value in inputs.items() if name not in responses.OWN_PARAMETERS
        }
        if unknown := sorted(parameters.keys() - responses.PARAMETERS):
            raise BadRequestError(
                self.env._(
                    "The inputs cannot have %(unknown)s. Take it out: the provider is given"
                    " %(allowed)s only.",
                    unknown=", ".join(unknown)[:200],
                    allowed=", ".join(sorted(responses.PARAMETERS)),
                )
            )
        return parameters

    def _openai_response(self, method, path, payload=None):
        """Return the response with which the server answers.

        :raise requests.RequestException: if there is no answer, or one that refuses
        :raise GenerationError: for an error within a success, and for something else
        """
        response = self._openai_request(request_json, method, path, json=payload)
        if response.get("status") not in responses.STATES:
            raise no_answer(response, STRANGE)
        return response

    def _openai_request(self, request, method, path, **kwargs):
        api_base = (self.api_base or DEFAULT_API_BASE).rstrip("/")
        return request(
            method,
            f"{api_base}/{path}",
            headers=self._openai_job_headers(),
            timeout=(CONNECT_TIMEOUT, READ_TIMEOUT),
            **kwargs,
        )

    def _openai_job_headers(self, name="Authorization", scheme="Bearer "):
        """Return what says who asks: nothing for a server that wants no key.

        :raise UserError: for a key that cannot be one, which an error would tell
        """
        key = self._read_api_key().strip()
        if not re.fullmatch(r"[!-~]*", key):
            raise UserError(
                self.env._(
                    "The API key of %s has spaces or letters that no key has. Enter it again.",
                    self.name,
                )
            )
        return {name: f"{scheme}{key}"} if key else {}

    @staticmethod
    def _openai_job_path(job):
        return f"responses/{segment(job.external_job_id)}"

    def _openai_runs_job(self, job):
        # Tools are run by the thread, between calls: what runs at OpenAI alone cannot.
        return (
            self.use_background_jobs
            and job.model_id.model_use in {"chat", "multimodal"}
            and not job.thread_id.tool_ids
        )

    def _openai_job_messages(self, job, prompt):
        if not job.post:
            return job._asked_messages()
        thread, history = job.thread_id, job.input_message_id
        messages = []
        # Without an addon that generates, a thread knows neither its history nor its prompt.
        if hasattr(thread, "get_prepend_messages"):
            messages += thread.get_prepend_messages() or ()
        if hasattr(thread, "get_llm_messages"):
            # The newest ones: what was asked after the question is none of its context.
            history = thread.get_llm_messages()._as_asked(history)
        messages += self.format_messages(history, model=job.model_id)
        if prompt and not job.input_message_id:
            messages.append({"role": "user", "content": str(prompt)})
        return messages

    @api.private
    def openai_check_generation_job_status(self, job_record):
        try:
            response = self._openai_response("GET", self._openai_job_path(job_record))
        except requests.HTTPError as error:
            if error.response.status_code == 404:
                raise ProviderFailedError(GONE) from None
            raise
        result = responses.read_response(response)
        if result["poll_after"] and self._openai_window(job_record):
            result["poll_after"] = responses.WINDOW_POLL
        if result["state"] == "completed" and not job_record.post:
            result["output"] = responses.read_text(response)
        elif result["state"] == "completed":
            message = job_record.thread_id.message_post(
                body=responses.read_text(response),
                llm_role="assistant",
                author_id=False,
                parent_id=job_record.input_message_id.id,
            )
            result["output_message_id"] = message.id
        return result

    @api.private
    def openai_cancel_generation_job(self, job_record):
        """Stop a job; one that has ended stays as it is."""
        if not job_record.external_job_id:
            return False
        try:
            response = self._openai_response(
                "POST", f"{self._openai_job_path(job_record)}/cancel", {}
            )
        except requests.HTTPError as error:
            if error.response.status_code in {400, 404}:
                return False
            raise
        return response.get("status") == "cancelled"

    # === BATCHES === #
    # `llm_generate_job_batch` calls these, where it is installed.

    @api.private
    def openai_prepare_generation_batch(self, job_record):
        """Return what a batch asks for a job: what the job would ask by itself."""
        inputs = job_record.generation_inputs or {}
        messages = self._openai_job_messages(job_record, inputs.get("prompt"))
        model = job_record.model_id.name
        if self.use_background_jobs:
            parameters = self._openai_job_parameters(responses.with_limit(inputs))
            asked = {"model": model, "input": responses.build_input(messages)}
            return {"url": batches.RESPONSES, "body": {**parameters, **asked}}
        arguments, limit = job_record._told_inputs()
        asked = {"model": model, "messages": messages}
        return {
            "url": batches.CHAT,
            "body": {**arguments, **dict([limit] if limit else []), **asked},
        }

    @api.private
    def openai_submit_generation_batch(self, batch_record, requests):
        told = {"endpoint": next(iter(requests.values()))["url"]}
        if file_id := self._openai_upload(batch_record, requests):
            told |= {"input_file_id": file_id, "completion_window": "24h"}
            if not self._openai_google_root():
                told["metadata"] = {batches.KEY: batch_record.key}
        else:
            told |= batches.build_inline(requests)
        return google_batches.id_of(self._openai_batch("POST", "batches", json=told).get("id"))

    def _openai_upload(self, batch_record, requests_by_id):
        """Upload what a batch asks, and return the id of the file; None where files are unknown.

        OpenRouter takes the requests with the batch.
        """
        name = f"{batch_record.key}.jsonl"
        content = batches.build_file(requests_by_id)
        if self._openai_google_root():
            return self._openai_google_upload(batch_record, content)
        try:
            uploaded = self._openai_request(
                request_json,
                "POST",
                "files",
                data={"purpose": "batch"},
                files={"file": (name, content, "application/jsonl")},
            )
        except requests.HTTPError as error:
            if error.response.status_code in {404, 405}:
                return None
            raise
        if not uploaded.get("id"):
            raise no_answer(uploaded, NO_BATCH)
        return uploaded["id"]

    def _openai_batch(self, method, path, **kwargs):
        batch = self._openai_request(request_json, method, path, **kwargs)
        if batch.get("status") not in batches.STATES:
            raise no_answer(batch, NO_BATCH)
        return batch

    def _openai_known_batch(self, external_id):
        """Return what is known of a batch now."""
        if not self._openai_google_root():
            path = f"batches/{segment(external_id)}"
            return self._openai_batch("GET", path, limit=batches.LIMIT)
        path = google_batches.batch_path(external_id)
        told = self._openai_google_request(request_json, "GET", path)
        if not told.get("name"):
            raise no_answer(told, NO_BATCH)
        return google_batches.read_operation(told)

    @api.private
    def openai_find_generation_batch(self, batch_record):
        since, unnamed = batch_record._made_since(), []
        for batch in self._openai_batches():
            name, key = (batch.get("metadata") or {}).get(batches.KEY), batch_record.key
            if name == key or google_batches.is_named(batch, key):
                if not batch.get("id"):
                    raise no_answer(batch, NO_BATCH)
                return batch["id"]
            if batches.is_unnamed(batch) and batches.created_at(batch) >= since:
                unnamed.append(batch)
        return self._find_unnamed_batch(batch_record, map(self._openai_unnamed, unnamed))

    def _openai_batches(self):
        """Yield what is known of all batches, newest first."""
        if self._openai_google_root():
            yield from self._openai_google_batches()
            return
        last = None
        for _page in range(PAGES):
            params = {"limit": PAGE, **({"after": last} if last else {})}
            page = self._openai_request(request_json, "GET", "batches", params=params)
            if not isinstance(page.get("data"), list):
                raise no_answer(page, NO_BATCH)
            yield from page["data"]
            last = page["data"] and page["data"][-1].get("id")
            if not (last and page.get("has_more")):
                break

    def _openai_unnamed(self, batch):
        told = batches.read_batch(batch)

        def results():
            return self._openai_results(self._openai_known_batch(batch["id"]))

        return batch.get("id"), told["number"], None if told["state"] == "running" else results

    @api.private
    def openai_check_generation_batch(self, batch_record):
        batch = self._openai_known_batch(batch_record.external_id)
        told = batches.read_batch(batch)
        if told["state"] == "ended":
            told["results"] = self._openai_results(batch)
        return told

    def _openai_results(self, batch):
        yield from map(batches.read_line, batch.get("results") or ())
        for name in ("output_file_id", "error_file_id"):
            if file_id := batch.get(name):
                yield from map(batches.read_line, self._openai_lines(file_id))

    def _openai_lines(self, file_id):
        if self._openai_google_root():
            path = f"download/{google_batches.file_path(file_id)}:download?alt=media"
            return self._openai_google_request(request_lines, "GET", path)
        return self._openai_request(request_lines, "GET", f"files/{segment(file_id)}/content")

    @api.private
    def openai_cancel_generation_batch(self, batch_record):
        external_id = batch_record.external_id
        if self._openai_google_root():  # it says nothing
            path = f"{google_batches.batch_path(external_id)}:cancel"
            self._openai_google_request(request_json, "POST", path, json={})
            return True
        batch = self._openai_batch("POST", f"batches/{segment(external_id)}/cancel", json={})
        return batch["status"] in {"cancelling", "cancelled"}

    @api.private
    def openai_forget_generation_batch(self, batch_record):
        """Delete a batch's files, and itself where it is no more than these.

        :raise requests.RequestException: for one that stays; the others are deleted all the same
        """
        batch = self._openai_known_batch(batch_record.external_id)
        names = ("input_file_id", "output_file_id", "error_file_id")
        files, refused = [batch[name] for name in names if batch.get(name)], None
        if self._openai_google_root():
            ask = self._openai_google_request
            paths = [*map(google_batches.file_path, files), google_batches.batch_path(batch["id"])]
        else:
            ask = self._openai_request
            paths = [f"files/{segment(name)}" for name in files]
            if batches.is_unnamed(batch):
                paths.append(f"batches/{segment(batch_record.external_id)}")
        for path in paths:
            try:
                ask(request_json, "DELETE", path)
            except requests.RequestException as error:
                if error.response is None or error.response.status_code != 404:  # else it is gone
                    refused = error
        if refused:
            raise refused

    # === GEMINI === #
    # What its compatible endpoint leaves to the root of its host, see `google_batches.py`.

    def _openai_google_root(self):
        return google_batches.root_of(self.api_base)

    def _openai_google_request(self, request, method, path, headers=None, **kwargs):
        return request(
            method,
            f"{self._openai_google_root()}/{path}",
            headers={**self._openai_job_headers("x-goog-api-key", ""), **(headers or {})},
            timeout=(CONNECT_TIMEOUT, READ_TIMEOUT),
            **kwargs,
        )

    def _openai_google_upload(self, batch_record, content):
        """Upload the file of a batch, and return its name.

        :raise GenerationError: where it got another, by which its batch would not be found
        """
        name = google_batches.file_name(batch_record.key, content, batch_record.tries)
        asked = google_batches.build_upload(name, content)
        try:
            told = self._openai_google_request(request_json, "POST", "upload/v1beta/files", **asked)
        except requests.HTTPError as error:
            if error.response.status_code != 409:
                raise
            # It was uploaded, whole, by a try that does not count as Google had no room then.
            return name
        file = told.get("file")
        if not isinstance(file, dict) or file.get("name") != name:
            raise no_answer(told, NO_BATCH)
        return name

    def _openai_google_batches(self):
        """Yield what is known of all batches, as OpenAI has them, in whatever order.

        :raise GenerationError: where not all can be looked at: the one in question may be there
        """
        params = {"pageSize": PAGE}
        for _page in range(PAGES):
            page = self._openai_google_request(request_json, "GET", "v1beta/batches", params=params)
            if page.keys() - google_batches.PAGE:
                raise no_answer(page, NO_BATCH)
            for operation in page.get("operations") or ():
                if not google_batches.has_no_file(operation):
                    yield google_batches.read_operation(operation)
            if not page.get("nextPageToken"):
                return
            params["pageToken"] = page["nextPageToken"]
        raise OverloadedError(google_batches.TOO_MANY)
