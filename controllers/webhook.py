import logging
import re

from odoo import http
from odoo.http import Response, request

from ..const import LAST_ID, WEBHOOK_PATH

#: Bytes; providers send a state and addresses, and what is larger is found out by a poll.
BODY_LIMIT = 1_000_000
TOKEN_RE = re.compile(rf"({WEBHOOK_PATH}/[^/\s]+/)[^\s?\"]+")


def hide_tokens(record):
    """Keep the secret part of a webhook's address out of the access log."""
    record.msg = _hide_token(record.msg)
    if isinstance(record.args, tuple):
        record.args = tuple(map(_hide_token, record.args))
    return True


def _hide_token(value):
    return TOKEN_RE.sub(r"\1[hidden]", value) if isinstance(value, str) else value


logging.getLogger("werkzeug").addFilter(hide_tokens)


class LlmGenerationWebhook(http.Controller):
    @http.route(
        f"{WEBHOOK_PATH}/<int(max={LAST_ID}):job_id>/<string:token>",
        type="http",
        auth="none",
        methods=["POST"],
        csrf=False,
        readonly=False,
        save_session=False,
        max_content_length=BODY_LIMIT,
    )
    def receive(self, job_id, token, **_kwargs):
        """Take a provider's webhook about a job; the job is then asked about at once."""
        headers = {name.lower(): value for name, value in request.httprequest.headers.items()}
        status = request.env(su=True)["llm.generation.engine"]._receive(
            job_id, token, headers, request.httprequest.get_data()
        )
        return Response(status=status)
