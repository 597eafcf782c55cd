from werkzeug.exceptions import BadRequest

from odoo import http
from odoo.http import request

from .event_stream import EventStream, id_of, respond


class LlmGenerationController(http.Controller):
    @http.route("/llm_generate_job/generate", type="http", auth="user", methods=["POST"])
    def generate(self, thread_id=None, message=None, use_queue=None):
        """Answer with the events of `generate_response()`.

        A stream that has to end before its job does ends with an event of type `follow`.

        :param use_queue: "1" or "0"; without it the thread chooses
        """
        thread = self._find("llm.thread", "thread_id", thread_id)
        if not isinstance(message or "", str) or "\0" in (message or ""):
            raise BadRequest(request.env._("%s has to be a text.", "message"))
        thread.check_access("write")
        choice = {"1": True, "0": False}.get(use_queue)
        return self._stream(thread_id=thread.id, message=message or None, use_queue=choice)

    @http.route("/llm_generate_job/follow", type="http", auth="user", methods=["GET", "POST"])
    def follow(self, job_id=None, **_kwargs):
        """Answer with the events of a job, from where it stands now to its end."""
        job = self._find("llm.generation.job", "job_id", job_id)
        job.check_access("read")
        job.thread_id.check_access("read")
        return self._stream(job_id=job.id)

    def _find(self, model, name, record_id):
        """Return the record that a parameter of the request names.

        :raise BadRequest: where it is missing, or no number
        :raise NotFound: where there is no such record
        """
        if (number := id_of(record_id)) is None:
            raise BadRequest(request.env._("%s has to be a number.", name))
        record = request.env[model].browse(number).exists()
        if not record:
            raise request.not_found()
        return record

    def _stream(self, **about):
        return respond(EventStream(request.env, **about))
