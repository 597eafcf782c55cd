import contextlib
import logging
import time

import psycopg2
from psycopg2.pool import PoolError

from odoo import api, models
from odoo.exceptions import AccessError, MissingError, UserError

from .. import exceptions
from ..runner import thread_lock
from ..runner.answer import Answer
from ..runner.http_errors import classify, scrub

_logger = logging.getLogger(__name__)

NO_ID = "The provider accepted the job without an id."
#: Seconds until a job is tried again whose thread is busy with an answer that no job writes;
#: the end of one that a job writes is noticed at once.
BUSY_DELAY = 5.0
#: Seconds between the tries to store an answer while the database is away: ten minutes.
PATIENCE = (0.2, 0.5, 1, 2, 5, *[10] * 59)


class OvertakenError(Exception):
    """The attempt no longer counts: the job was cancelled, timed out or rescued."""


class ThreadBusyError(Exception):
    """Another answer is being written into the thread."""


class LlmGenerationCall(models.AbstractModel):
    """Talks to the provider about one claimed job. No transaction is open while it waits."""

    _name = "llm.generation.call"
    _description = "LLM Generation Call"
    _inherit = ["llm.generation.verdict"]

    @api.model
    def _run(self, claim):
        """Run a claimed job: submit it, or generate directly, and apply the outcome."""
        self._converse(claim, "_submit")

    @api.model
    def _poll(self, claim):
        """Ask the provider about an external job and apply its answer.

        :return: the provider's dict, False when the question failed
        """
        return self._converse(claim, "_ask")

    @api.model
    def _converse(self, claim, talk):
        """Speak with the provider, then apply its answer.

        :param str talk: the method that speaks, `_submit` or `_ask`
        :return: what the provider said, False on an error
        """
        raw = False
        with self._transaction(lazy=True) as call:
            try:
                job = call._prepare(claim)
                answer, raw = getattr(call, talk)(job, claim)
            except OvertakenError:
                call.env.cr.rollback()
                return False
            except Exception as error:  # noqa: BLE001 whatever a provider raises ends its job
                call.env.cr.rollback()
                answer = call._answer_of(error, claim, polling=talk == "_ask")
            call._conclude(claim, answer)
        return raw

    def _conclude(self, claim, answer):
        """Apply an answer and commit; wait for a database that is away, the answer is paid for."""
        for pause in (*PATIENCE, None):
            has_writes = self.env.cr.in_transaction
            try:
                if self._apply(claim, answer):
                    self.env.cr.commit()
                else:
                    self.env.cr.rollback()
                return
            except (psycopg2.OperationalError, psycopg2.InterfaceError, PoolError):
                if pause is None:
                    raise
                _logger.warning("Job %s: the database is away, its answer waits", claim.job_id)
                with contextlib.suppress(psycopg2.Error):
                    self.env.cr.rollback()
                if has_writes:  # what the provider's code wrote is gone with the transaction
                    lost = exceptions.UnknownOutcomeError("The database went away with the answer.")
                    answer = Answer.from_error(lost)
                time.sleep(pause)

    # === PREPARE === #

    @api.model
    def _prepare(self, claim):
        """Return the job in its owner's environment, with all that a provider reads at hand.

        :raise AccessError: when the owner was archived or may no longer use the thread
        """
        hold = getattr(self.env.cr, "hold", contextlib.nullcontext)
        with hold():
            job = self.env["llm.generation.job"].browse(claim.job_id).exists()
            if not job:
                raise OvertakenError
            self._check_owner(job)
            job = job.with_user(job.user_id).with_context(self._owner_context(job))
            for record in (job.thread_id, job.model_id, job.provider_id):
                if not record.has_access("read"):
                    raise AccessError(
                        job.env._(
                            "%(user)s may no longer use this %(what)s.",
                            user=job.user_id.name,
                            what=record._description,
                        )
                    )
            for record in (job, job.thread_id, job.model_id, job.provider_id):
                record.fetch()
                record.sudo().fetch()
        return job

    @api.model
    def _check_owner(self, job):
        user = job.user_id
        if user._is_superuser():
            if job.thread_id.tool_ids:
                raise AccessError(
                    self.env._("Tools do not run as OdooBot. Give the thread another owner.")
                )
        elif not user.active:
            raise AccessError(
                self.env._("The user %s was archived; nothing runs in their name.", user.name)
            )

    @api.model
    def _owner_context(self, job):
        user, call = job.user_id, self.env.context.get("generation_call")
        companies = job.company_id & user.company_ids or user.company_id
        return {
            "lang": user.lang,
            "tz": user.tz,
            "allowed_company_ids": companies.ids,
            "llm_on_response": call and call.on_response,
        }

    # === TALK === #

    @api.model
    def _submit(self, job, claim):
        """Hand the job to its provider, or generate directly where that runs no jobs."""
        provider = job.provider_id
        if job.external_job_id:
            # An earlier attempt may still be running there: paying for both is worse than for
            # either.
            provider.cancel_generation_job(job)
        try:
            result = provider.create_generation_job(job)
        except exceptions.NoJobInterfaceError:
            return self._generate(job, claim), False
        if isinstance(result, dict):
            return Answer.from_dict(result), result
        if not result:
            raise exceptions.ProviderFailedError(NO_ID)
        return Answer("running", external_job_id=str(result)), result

    @api.model
    def _ask(self, job, _claim):
        result = job.provider_id.check_generation_job_status(job)
        return Answer.from_dict(result), result

    @api.model
    def _generate(self, job, claim):
        """Generate in the thread, as the provider's users did before there was a queue."""
        thread = job.thread_id
        with thread_lock.hold(self.env.cr.dbname, thread.id) as unlock:
            if not unlock:
                raise ThreadBusyError
            self._forget_partial_answer(job, claim)
            try:
                return self._relay(job, claim)
            except UserError as error:
                if job.output_message_id:  # it broke off: that is no fault of the request
                    raise exceptions.ProviderFailedError(str(error)) from error
                # Some of the family take the lock themselves, and find ours.
                unlock()
                self.env.cr.rollback()
            try:
                return self._relay(job, claim)
            except UserError:
                if not job.output_message_id and thread_lock.is_taken(
                    self.env.cr.dbname, thread.id
                ):
                    raise ThreadBusyError from None
                raise

    @api.model
    def _relay(self, job, claim):
        """Run the thread's own generator, committing after each event it yields."""
        usage, output = {}, job.output_message_id.id
        with contextlib.closing(job._direct_events()) as events:
            for event in events:
                if event.get("type") == "error":
                    raise exceptions.ProviderFailedError(str(event.get("error") or ""))
                usage = event.get("usage") or usage
                message = event.get("message") or {}
                if message.get("id") and message.get("llm_role") == "assistant":
                    output = message["id"]
                self._checkpoint(job, claim, output)
        return Answer("completed", output_message_id=output or None, usage=usage)

    @api.model
    def _checkpoint(self, job, claim, output):
        """Keep what came so far, and tell those who wait.

        :raise OvertakenError: when the attempt no longer counts: nothing more is posted
        """
        locked = self._fence(claim)
        if not locked:
            raise OvertakenError
        if output and locked.output_message_id.id != output:
            locked.output_message_id = output
        self._notify(locked)
        self.env.cr.commit()

    @api.model
    def _forget_partial_answer(self, job, claim):
        """Remove what an attempt left behind that broke in the middle of its answer."""
        partial = job.sudo().output_message_id  # the answer's author is nobody
        if partial and self._fence(claim):
            partial.unlink()
            self.env.cr.commit()

    # === ERRORS === #

    @api.model
    def _answer_of(self, error, claim, *, polling):
        """Translate an exception of the conversation into an answer."""
        if isinstance(error, ThreadBusyError):
            return Answer("failed", error_type="busy", retry_after=BUSY_DELAY)
        known = classify(error)
        if known is None and isinstance(error, psycopg2.OperationalError | psycopg2.InterfaceError):
            known = exceptions.UnknownOutcomeError("The database was away during the call.")
        if known is None and isinstance(error, AccessError | MissingError):
            return Answer("failed", error_type="access", error_message=scrub(error))
        if known is None and isinstance(error, UserError):
            known = exceptions.BadRequestError(str(error))
        if known is None:
            _logger.error("Job %s failed unexpectedly", claim.job_id, exc_info=error)
            text = scrub(f"{type(error).__name__}: {error}")
            return Answer("failed", error_type="internal", error_message=text)
        if polling and known.error_type not in {"bad_request", "provider_failed", "cancelled"}:
            # That the question failed says nothing about the job.
            return Answer("running", poll_after=known.retry_after)
        return Answer.from_error(known)
