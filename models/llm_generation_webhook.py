import hmac
import logging
import time

from odoo import api, fields, models

from ..exceptions import GenerationError
from ..runner.answer import Claim
from ..runner.webhook_signatures import OTHER_JOB, TOLERANCE, WebhookRefusedError

_logger = logging.getLogger(__name__)


class LlmGenerationWebhook(models.AbstractModel):
    """Takes a provider's word that something happened to a job: a reason to ask, and no more.

    What the webhook says of the result is never believed. The poll that follows ends the job,
    fenced as any other, so that a webhook, a poll and a cancellation end it once.
    """

    _name = "llm.generation.webhook"
    _description = "LLM Generation Webhook"
    _inherit = ["llm.generation.verdict"]

    @api.model
    def _receive(self, job_id, token, headers, body):
        """Note that a provider has news of a job.

        :param str token: the secret part of the address
        :param dict headers: by lower-case name
        :param bytes body: as it was received
        :return: the HTTP status to answer with
        """
        with self._transaction(lazy=True) as webhook:
            job = webhook._find_job(job_id, token)
            if not job:
                return 404
            claim = Claim(job.id, job.attempt_token)
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
            return webhook._note(claim, delivery)

    @api.model
    def _find_job(self, job_id, token):
        """Return the job whose address it is; empty for a wrong token as for a wrong job."""
        job = self.env["llm.generation.job"].browse(job_id).exists()
        right = (job.webhook_token or "").encode()
        is_right = hmac.compare_digest(right, token.encode())
        return job if right and is_right else job.browse()

    @api.model
    def _note(self, claim, delivery):
        """Have the job asked about now, unless it has ended or the delivery is known."""
        job = self._fence([claim])
        if not job:
            return 200
        seen = job.webhook_deliveries or {}
        if delivery.key in seen:
            _logger.warning("Job %s: a webhook was refused: it came before", job.id)
            return 409
        # What is older is refused for its age: a delivery is fresh for twice the tolerance.
        now = time.time()
        seen = {key: at for key, at in seen.items() if at > now - 2 * TOLERANCE}
        job.write({
            "is_hinted": True,
            "next_poll_at": fields.Datetime.now(),
            "webhook_deliveries": {**seen, delivery.key: int(now)},
        })
        self._wake("webhook")
        return 200
