from markupsafe import Markup

from odoo import api, models
from odoo.exceptions import UserError

from odoo.addons.llm_generate_job.exceptions import (
    BadRequestError,
    ContentRefusedError,
    GenerationError,
    ProviderFailedError,
)
from odoo.addons.llm_generate_job.protocol.bounded_http import path, segment
from odoo.addons.llm_generate_job.protocol.http_errors import no_answer
from odoo.addons.llm_generate_job.protocol.signatures import (
    WebhookRefusedError,
    verify_fal,
)

from .. import jwks, results
from ..client import FalClient
from ..files import DOWNLOAD, fetch_files

GONE = "fal no longer has the job or its result."
STRANGE = "fal answered with something else than a status."
#: How often files that cannot be had are asked for again: for the minutes that fal keeps them.
FILE_TRIES = 12
#: Addresses that fal names for a job, as they are kept in `provider_data`.
ADDRESSES = ("status_url", "response_url", "cancel_url")


class LlmProvider(models.Model):
    _inherit = "llm.provider"

    @api.model
    def _get_available_services(self):
        return [*super()._get_available_services(), ("fal_ai", "fal.ai")]

    def _fal_ai_client(self):
        self.ensure_one()
        key = self._read_api_key().strip()
        if not (key.isascii() and key.isprintable() and " " not in key):
            raise UserError(
                self.env._(
                    "The API key of %s has spaces or letters that no key has. Enter it again.",
                    self.name,
                )
            )
        return FalClient(self.api_base, key)

    # === JOBS === #

    @api.private
    def fal_ai_create_generation_job(self, job_record):
        """Submit a job to the model's queue, with an address for webhooks where fal reaches us."""
        client = self._fal_ai_client()
        webhook = job_record._webhook_url()
        status = client.call(
            "POST",
            f"{client.api_base}/{path(job_record.model_id.name)}",
            payload=self._fal_ai_inputs(job_record),
            params={"fal_webhook": webhook} if webhook else None,
        )
        request_id = status.get("request_id")
        if not request_id:
            raise no_answer(status, STRANGE)
        return {
            "state": "queued",
            "external_job_id": request_id,
            "provider_data": {"request_id": request_id}
            | {name: status[name] for name in ADDRESSES if isinstance(status.get(name), str)},
            "expires_in": results.KEPT,
        }

    def _fal_ai_inputs(self, job):
        """Return the inputs of the job, or those of the question: structured ones, or its text."""
        if job.generation_inputs:
            return job.generation_inputs
        question = job.input_message_id
        if question.body_json:
            return question.body_json
        return {"prompt": question._said().strip()}

    def _fal_ai_address(self, job, name, client):
        """Return an address of the job, as fal named it.

        It is made up only where fal's answer was lost between the call and our commit.
        """
        data = job.provider_data or {}
        if data.get("request_id") == job.external_job_id and data.get(name):
            return data[name]
        app = "/".join(path(job.model_id.name).split("/")[:2])
        end = {"status_url": "/status", "response_url": "", "cancel_url": "/cancel"}[name]
        return f"{client.api_base}/{app}/requests/{segment(job.external_job_id)}{end}"

    @api.private
    def fal_ai_check_generation_job_status(self, job_record):
        client = self._fal_ai_client()
        status = client.call(
            "GET",
            self._fal_ai_address(job_record, "status_url", client),
            params={"logs": "1"},
            accept={404},
        )
        if status.get("status") not in results.STATES:
            if "detail" in status:
                raise ProviderFailedError(GONE)
            raise no_answer(status, STRANGE)
        result = results.read_status(status)
        if isinstance(status.get("queue_position"), int):
            position = {"queue_position": status["queue_position"]}
            result["provider_data"] = (job_record.provider_data or {}) | position
        if result["state"] == "completed":
            result |= self._fal_ai_finish(job_record, client)
        return result

    def _fal_ai_finish(self, job, client):
        """Post the answer of a job that has ended there, and return what is new about the job.

        What cannot be had now is asked for again a few times. The answer comes without its files
        then, and says so.

        :raise ProviderFailedError: where the answer itself cannot be had
        """
        tries = (job.provider_data or {}).get("file_tries", 0)
        output = None
        try:
            output = self._fal_ai_output(job, client)
            files = fetch_files(client, results.find_files(output), is_last=tries >= FILE_TRIES)
        except GenerationError as error:
            # A model that refuses says so here, though its job has completed.
            is_said = isinstance(error, BadRequestError | ContentRefusedError | ProviderFailedError)
            if output is None and (is_said or tries >= FILE_TRIES):
                raise error if is_said else ProviderFailedError(str(error)) from None
            return {
                "state": "running",
                "provider_data": (job.provider_data or {}) | {"file_tries": tries + 1},
                "poll_after": error.retry_after or min(results.LONGEST_WAIT, 2.0**tries),
            }
        return {"output_message_id": self._fal_ai_post(job, output, files).id}

    def _fal_ai_output(self, job, client):
        address = self._fal_ai_address(job, "response_url", client)
        output = client.call("GET", address, accept={404})
        if set(output) == {"detail"}:
            raise ProviderFailedError(GONE)
        return output

    def _fal_ai_post(self, job, output, files):
        """Post an answer with its files, fetched before anything is written."""
        thread = job.thread_id
        kept = [file for file in files if not file.reason]
        attachments = self.env["ir.attachment"].create([
            {
                "name": file.name,
                "raw": file.content,
                "mimetype": file.mimetype,
                "res_model": thread._name,
                "res_id": thread.id,
            }
            for file in kept
        ])
        # Odoo takes "any bytes" for "not known", and looks into them: tell it a second time.
        pairs = zip(attachments, kept, strict=True)
        downloads = [attachment.id for attachment, file in pairs if file.mimetype == DOWNLOAD]
        attachments.browse(downloads).write({"mimetype": DOWNLOAD})
        return thread.message_post(
            body=self._fal_ai_body(results.read_text(output), files),
            body_json=results.without_data(output),
            llm_role="assistant",
            author_id=False,
            attachment_ids=attachments.ids,
            parent_id=job.input_message_id.id,
        )

    def _fal_ai_body(self, text, files):
        """Return the text of an answer, and a line about each file that is not kept."""
        body = Markup("<p>%s</p>") % text if text else Markup()
        for file in files:
            if file.reason:
                link = Markup('<a href="%s">%s</a>') % (file.url, file.name)
                body += Markup("<p>%s</p>") % self.env._(
                    "The file %(file)s is not kept: %(reason)s.",
                    file=link if file.url else file.name,
                    reason=file.reason,
                )
        return body

    @api.private
    def fal_ai_cancel_generation_job(self, job_record):
        """Ask fal to stop a job; one that has ended, or that is unknown there, it cannot stop."""
        if not job_record.external_job_id:
            return False
        client = self._fal_ai_client()
        answer = client.call(
            "PUT",
            self._fal_ai_address(job_record, "cancel_url", client),
            accept={400, 404},
        )
        return answer.get("status") == "CANCELLATION_REQUESTED"

    # === WEBHOOKS === #

    @api.private
    def fal_ai_verify_generation_webhook(self, _job_record, headers, body):
        client = self._fal_ai_client()
        keys = jwks.get_keys(client)
        try:
            return verify_fal(headers, body, keys)
        except WebhookRefusedError:
            # fal may sign with a new key.
            renewed = jwks.get_keys(client, renew=True)
            if renewed == keys:
                raise
        return verify_fal(headers, body, renewed)
