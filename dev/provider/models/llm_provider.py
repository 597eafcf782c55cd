import requests

from odoo import api, models

from odoo.addons.llm_generate_job.exceptions import (
    BadRequestError,
    ProviderFailedError,
)
from odoo.addons.llm_generate_job.protocol.bounded_http import request_json, segment
from odoo.addons.llm_generate_job.protocol.http_errors import no_answer

TIMEOUT = 60  # seconds without a byte: the job holds a slot meanwhile
GONE = "The provider no longer has the job."
STRANGE = "The provider answered with something else than a job."
#: What a job's inputs may say: what shapes an answer. Nothing that names other objects of the
#: account, has the provider fetch or run something, or is paid for apart.
PARAMETERS = frozenset({"prompt", "n", "seed"})
#: What the provider calls the states of a job, in the words of the queue.
STATE_OF = {
    "waiting": "queued",
    "running": "running",
    "done": "completed",
    "failed": "failed",
    "cancelled": "cancelled",
}


class LlmProvider(models.Model):
    _inherit = "llm.provider"

    @api.model
    def _get_available_services(self):
        return [*super()._get_available_services(), ("acme", "Acme")]

    @api.private
    def acme_create_generation_job(self, job_record):
        """Submit a job and return its id at the provider.

        No transaction is open meanwhile. What was submitted is never submitted again: where it is
        not known whether it was, say so.

        :raise GenerationError: if the answer names no job
        """
        inputs = self._acme_inputs(job_record)
        reply = self._acme_call("POST", "jobs", json=inputs)
        if not reply.get("id"):
            raise no_answer(reply, STRANGE)
        return reply["id"]

    @api.private
    def acme_check_generation_job_status(self, job_record):
        """Return what the provider says of a job: its state, and the answer once it is there.

        Asked again and again until the state is a last one. The message is kept only if the job
        was not cancelled meanwhile. What else may be told is in the README of the queue.

        :raise ProviderFailedError: if the provider does not know the job (any more)
        :raise GenerationError: if it answers with something that is no job
        """
        reply = self._acme_ask("GET", job_record)
        if reply is None:
            raise ProviderFailedError(GONE)
        state = STATE_OF.get(reply.get("status"))
        if not state:
            raise no_answer(reply, STRANGE)
        result = {"state": state, "progress": reply.get("percent")}
        if state == "failed":
            result["error_message"] = reply.get("error")
        if state == "completed":
            message = job_record.thread_id.message_post(
                body=reply.get("text"),
                llm_role="assistant",
                author_id=False,
                parent_id=job_record.input_message_id.id,
            )
            result |= {"output_message_id": message.id, "usage": reply.get("usage")}
        return result

    @api.private
    def acme_cancel_generation_job(self, job_record):
        """Ask the provider to stop a job; return whether it does, False for one that has ended."""
        if not job_record.external_job_id:
            return False
        reply = self._acme_ask("DELETE", job_record)
        return bool(reply and reply.get("stopped"))

    def _acme_inputs(self, job):
        """Return what is sent: the inputs of the job, or the text of its question.

        :raise BadRequestError: if the inputs have what is not for users
        """
        question = job.input_message_id._said().strip()
        inputs = job.generation_inputs or {"prompt": question}
        if unknown := sorted(inputs.keys() - PARAMETERS):
            raise BadRequestError(
                self.env._(
                    "The inputs cannot have %(unknown)s. Take it out: the provider is given"
                    " %(allowed)s only.",
                    unknown=", ".join(unknown)[:200],
                    allowed=", ".join(sorted(PARAMETERS)),
                )
            )
        return {**inputs, "model": job.model_id.name}

    def _acme_ask(self, method, job):
        """Call the provider about a job of its own; return None if it does not know it."""
        try:
            return self._acme_call(method, f"jobs/{segment(job.external_job_id)}")
        except requests.HTTPError as error:
            if error.response.status_code == 404:
                return None
            raise

    def _acme_call(self, method, path, **kwargs):
        """Return the object with which the provider answers.

        It is read with bounds: nobody knows what a provider sends. The queue knows what the errors
        of `requests` mean, and repeats a call where it should.

        :raise requests.RequestException: if there is no answer, one that refuses, or no object
        """
        key = self._read_api_key()
        return request_json(
            method,
            f"{self.api_base}/{path}",
            headers={"Authorization": f"Bearer {key}"},
            timeout=TIMEOUT,
            **kwargs,
        )
