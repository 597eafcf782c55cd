"""The route of the family's chat pages, `llm_thread`'s own, answered through the queue.

Who brings the route is not known here, nor how it answers directly: a request comes by on its
way there, and is taken where the thread queues what is asked.
"""

from werkzeug.exceptions import Forbidden

from odoo import models
from odoo.exceptions import AccessError, MissingError
from odoo.http import Response, request

from ..const import FINAL_STATES
from ..runner import streams
from .event_stream import EventStream, encode, id_of, no_room_text, respond, too_many_text

CHAT_ROUTE = "/llm/thread/generate"
#: What a browser says of a request that a page of ours made by a script, as an event stream is.
#: One without these headers is no browser, or not on https: its cookies are what there is.
OWN_PAGE = {"Sec-Fetch-Site": "same-origin", "Sec-Fetch-Dest": "empty"}


class IrHttp(models.AbstractModel):
    """Takes questions to the chat's route that are better queued."""

    _inherit = "ir.http"

    @classmethod
    def _dispatch(cls, endpoint):
        if CHAT_ROUTE not in endpoint.routing["routes"]:
            return super()._dispatch(endpoint)
        _refuse_others_pages()
        return _queued_answer() or _bounded(super()._dispatch(endpoint))


class ChatStream(EventStream):
    """The events of a queued question, the way a chat page reads them with an `EventSource`.

    Each names the job, so that a browser that comes again, as it does by itself, follows it. After
    an error comes `done`, too, as pages take the end of a stream without it for a lost connection.
    """

    last_type = None

    def run(self):
        yield from super().run()
        # After "follow" the browser is to come again.
        if self.last_type not in {"done", "follow"}:
            yield self._encode({"type": "done"})

    def _encode(self, event):
        self.last_type = event["type"]
        name = f"id: {self.job_id}\n".encode() if self.job_id else b""
        return name + super()._encode(event)


def _refuse_others_pages():
    """Refuse what a page of somebody else, a link or a picture in a text makes a browser ask.

    A question costs money, and is asked by a GET that carries no token.

    :raise Forbidden: where the browser says that it is none of our own pages' scripts
    """
    headers = request.httprequest.headers
    if any(headers.get(name, own) != own for name, own in OWN_PAGE.items()):
        raise Forbidden(request.env._("Only the chat page itself may ask."))


def _queued_answer():
    """Return the response of a question that goes through the queue, None where none does."""
    params = request.params
    if last := id_of(request.httprequest.headers.get("Last-Event-ID")):
        return _follow_again(last)
    thread = request.env["llm.thread"].browse(id_of(params.get("thread_id")) or 0).exists()
    message = params.get("message") or ""
    if not thread or not isinstance(message, str) or "\0" in message:
        return None
    try:
        thread.check_access("write")
        if not thread._queues_question():
            return None
    except (AccessError, MissingError):  # told as it has always been
        return None
    files = [id_of(part.strip()) for part in str(params.get("attachment_ids") or "").split(",")]
    asked = {"attachment_ids": [number for number in files if number]}
    if request.httprequest.method == "GET":
        # Browsers and proxies send a GET again that got no answer.
        asked["identity_key"] = thread._identity_of_question(message, asked["attachment_ids"])
    return respond(
        ChatStream(request.env, thread_id=thread.id, message=message, use_queue=True, **asked)
    )


def _follow_again(job_id):
    """Answer a browser whose stream about a job broke off."""
    job = request.env["llm.generation.job"].browse(job_id).exists()
    is_followed = job and job.has_access("read") and job.thread_id.has_access("read")
    if not is_followed or (job.state in FINAL_STATES and not job.retry_at):
        return Response(status=204)  # which ends an `EventSource`
    return respond(ChatStream(request.env, job_id=job.id))


def _bounded(response):
    """Bound the direct answers of a route that does not: each of the family's has a connection."""
    env = request.env
    is_stream = getattr(response, "mimetype", "") == "text/event-stream"
    if is_stream and not env["llm.thread"]._counts_streams():
        texts = (too_many_text(env), no_room_text(env))
        response.response = _counted(response.response, env.cr.dbname, env.uid, *texts)
    return response


def _counted(events, dbname, uid, too_many, no_room):
    """Yield the events of a direct answer where there is room for one more, else why not."""
    with streams.of_user(dbname, uid) as may_have, streams.direct() as has_room:
        if may_have and has_room:
            yield from events
            return
        yield encode({"type": "error", "error": no_room if may_have else too_many})
        yield encode({"type": "done"})
