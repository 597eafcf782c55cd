import functools

from odoo import api, models

from odoo.addons.llm_generate_job.exceptions import ProviderFailedError
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
NO_BATCH = "The provider answered with something else than a batch."
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
        """Look for a batch: it has no name there, and no result before its end."""
        since = batch_record._made_since()
        return self._find_unnamed_batch(
            batch_record,
            (
                (
                    batch.get("id"),
                    batches.count_of(batch),
                    functools.partial(self._anthropic_results, batch)
                    if batch.get("processing_status") == "ended"
                    else None,
                )
                for batch in self._anthropic_batches(since)
            ),
        )

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

    @api.private
    def anthropic_forget_generation_batch(self, batch_record):
        self._anthropic_request(request_json, "DELETE", segment(batch_record.external_id))

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
