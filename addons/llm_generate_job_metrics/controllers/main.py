import hmac

from prometheus_client.exposition import CONTENT_TYPE_LATEST

from odoo import http
from odoo.http import Response, request

from ..models.res_config_settings import TOKEN_PARAMETER


class LlmGenerationMetricsController(http.Controller):
    @http.route(
        "/llm_generate_job/metrics",
        type="http",
        auth="none",
        methods=["GET"],
        save_session=False,
        readonly=False,
    )
    def metrics(self):
        """Answer with the metrics, to who has the token: `Authorization: Bearer <token>`.

        Without a token in the settings there are none: the answer is 404.
        """
        env = request.env(su=True)  # the token is the right to read, no user is known
        token = env["ir.config_parameter"].get_param(TOKEN_PARAMETER)
        if not token:
            return Response(status=404)
        given = request.httprequest.headers.get("Authorization", "")
        if not hmac.compare_digest(given.encode(), f"Bearer {token}".encode()):
            return Response(status=401, headers={"WWW-Authenticate": "Bearer"})
        return Response(env["llm.generation.metrics"]._expose(), content_type=CONTENT_TYPE_LATEST)
