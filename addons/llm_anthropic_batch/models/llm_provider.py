from datetime import timedelta

from odoo import api, models

from odoo.addons.llm_generate_job.exceptions import OverloadedError, ProviderFailedError
from odoo.addons.llm_generate_job.protocol.bounded_http import (
    request_json,
    request_lines,
    segment,
)
from odoo.addons.llm_generate_job.protocol.http_errors import no_answer

from .. import batches

DEFAULT_API_BASE = "https://api.anthropic.com"
VERSION = "2023-06-01"
#: Seconds: for the connection, and without a byte.
TIMEOUT = (10, 120)
#: Batches on a page of their list, and pages that are looked at.
PAGE, PAGES = 100, 50
#: How far the clocks of the service and of this database are apart at most.
CLOCKS = timedelta(minutes=10)
NO_BATCH = "The provider answered with something else than a batch."
NOT_YET = "Whether the provider has this batch is known when the batches end that it may be."
GONE = "The provider no longer has the results; it keeps them for 29 days."


class LlmProvider(models.Model):
    """Gives many jobs at once to Anthropic, whoever's addon chats with it."""

    _inherit = "llm.provider"

    @api.private
    def anthropic_prepare_generation_batch(self, job_record):
        arguments, limit = job_record._told_inputs()
        limited = {"max_tokens": limit[1]} if limit else {}
        return batches.build_params(
            job_record.model_id.name,
            job_record._chat_messages(),
            **arguments,
            **limited,
        )

    @api.private
    def anthropic_submit_generation_batch(self, batch_record, requests):
        asked = [{"custom_id": one, "params": params} for one, params in requests.items()]
        return self._anthropic_batch("POST", json={"requests": asked})["id"]

    @api.private
    def anthropic_find_generation_batch(self, batch_record):
        """Look for a batch: it has no name there, and no result before its end.

        Those that were made since then of as many requests may be it; what they have answered
        tells. While one of them has not ended, nobody can know.
        """
        known = set(
            self
            .env[batch_record._name]
            .search([("provider_id", "=", self.id), ("external_id", "!=", False)])
            .mapped("external_id")
        )
        is_open = False
        for batch in self._anthropic_batches(batch_record.tried_at - CLOCKS):
            is_other = batch.get("id") in known
            if is_other or batches.count_of(batch) != batch_record.job_count:
                continue
            if batch.get("processing_status") != "ended":
                is_open = True
            elif self._anthropic_has(batch, batch_record):
                return batch["id"]
        if is_open:
            raise OverloadedError(NOT_YET)
        return None

    def _anthropic_batches(self, since):
        """Yield the batches that were made since then, newest first."""
        last = None
        for _page in range(PAGES):
            params = {"limit": PAGE, **({"after_id": last} if last else {})}
            page = self._anthropic_request(request_json, "GET", params=params)
            if not isinstance(page.get("data"), list):
                raise no_answer(page, NO_BATCH)
            for batch in page["data"]:
                made = batches.created_at(batch)
                if made and made < since:
                    return
                yield batch
            last = page.get("last_id")
            if not (last and page.get("has_more")):
                return

    def _anthropic_has(self, batch, batch_record):
        results = self._anthropic_results(batch)
        custom_id, _result = next(results, ("", None))
        results.close()
        return bool(batch_record._job_id_of(custom_id))

    @api.private
    def anthropic_check_generation_batch(self, batch_record):
        batch = self._anthropic_batch("GET", segment(batch_record.external_id))
        told = batches.read_batch(batch)
        if told["state"] == "ended":
            if batch.get("archived_at"):
                raise ProviderFailedError(GONE)
            told["results"] = self._anthropic_results(batch)
        return told

    def _anthropic_results(self, batch):
        path = f"{segment(batch['id'])}/results"
        for line in self._anthropic_request(request_lines, "GET", path):
            yield batches.read_line(line)

    @api.private
    def anthropic_cancel_generation_batch(self, batch_record):
        path = f"{segment(batch_record.external_id)}/cancel"
        return self._anthropic_batch("POST", path)["processing_status"] == "canceling"

    def _anthropic_batch(self, method, path="", **kwargs):
        batch = self._anthropic_request(request_json, method, path, **kwargs)
        if batch.get("processing_status") not in batches.STATES or not batch.get("id"):
            raise no_answer(batch, NO_BATCH)
        return batch

    def _anthropic_request(self, request, method, path="", **kwargs):
        base = (self.api_base or DEFAULT_API_BASE).rstrip("/").removesuffix("/v1")
        return request(
            method,
            f"{base}/v1/messages/batches{path and '/'}{path}",
            headers={"x-api-key": self._read_api_key().strip(), "anthropic-version": VERSION},
            timeout=TIMEOUT,
            **kwargs,
        )
