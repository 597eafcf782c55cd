import hmac
import logging

import psycopg2

from odoo import api, models

from ..exceptions import GenerationError
from ..protocol.signatures import OTHER_JOB, WebhookRefusedError
from ..runner.messages import Due
from . import sql

_logger = logging.getLogger(__name__)

#: Milliseconds for who changes the job just now: a request has no more time.
LOCK_PATIENCE = 2000
#: Seconds between two questions about a job that its webhooks bring about.
HINT_PAUSE = 3.0


class LlmGenerationEngine(models.AbstractModel):
    """Takes a provider's word that something happened to a job: a reason to ask, and no more.

    What the webhook says of the result is never believed. The poll that follows ends the job,
    fenced as any other, so that a webhook, a poll and a cancellation end it once.
    """

    _inherit = "llm.generation.engine"

    @api.model
    def _receive(self, job_id, token, headers, body):
        """Note that a provider has news of a job.

        :param str token: the secret part of the address
        :param dict headers: by lower-case name
        :param bytes body: as it was received
        :return: the HTTP status to answer with
        """
        with self._transaction(lazy=True) as webhook:
            webhook.env.cr.bind(LOCK_PATIENCE)
            job = webhook.env["llm.generation.job"].browse(job_id).exists()
            right = (job.webhook_token or "").encode()
            is_right = hmac.compare_digest(right, token.encode())
            if not (right and is_right):  # a wrong token is answered as a wrong job
                return 404
            params = {"job": job.id, "token": job.attempt_token or 0, "pause": HINT_PAUSE}
            try:
                delivery = job.provider_id._verify_generation_webhook(job, headers, body)
                known = job.external_job_id
                # Without an id of ours yet, the webhook was faster than our own commit.
                if known and delivery.external_id and delivery.external_id != known:
                    raise WebhookRefusedError(OTHER_JOB)  # noqa: TRY301
            except WebhookRefusedError as refusal:
                _logger.warning("Job %s: a webhook was refused: %s", job_id, refusal)
                return 401
            except GenerationError as error:
                _logger.warning("Job %s: a webhook cannot be verified now: %s", job_id, error)
                return 503
            try:
                # One that comes again, by whomever it is sent, only asks again.
                if webhook._change(sql.HINT, params):
                    webhook._wake(Due())
            except psycopg2.errors.LockNotAvailable:
                _logger.info("Job %s: changed by somebody, so a webhook has to come again", job_id)
                webhook.env.cr.rollback()
                return 503
            return 200
